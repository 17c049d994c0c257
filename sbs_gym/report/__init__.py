"""Numbers made readable: tables and figures. Milliseconds are born here and die here."""
