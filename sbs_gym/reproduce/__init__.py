"""The paper's claims, measured here: studies, their verdicts, and the report that tells of them."""
