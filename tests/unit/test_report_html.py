"""A page is one file: well formed, nothing loaded, everything escaped."""

from __future__ import annotations

from html.parser import HTMLParser

from sbs_gym.report import html

VOID = {"meta", "img", "wbr", "br"}
PIXEL = bytes.fromhex("89504e470d0a1a0a0000000d4948445200000064")  # a PNG up to its width of 100


class Reader(HTMLParser):
    """Collects tags with their attributes, and complains about what is not closed."""

    def __init__(self):
        super().__init__()
        self.open, self.found, self.texts = [], [], []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)

    def all(self, tag):
        return [attrs for name, attrs in self.found if name == tag]


def read(text):
    """The page's reader, after the checks that every page must pass."""
    reader = Reader()
    reader.feed(text)
    reader.close()
    assert reader.open == []
    assert not reader.all("script")
    assert not reader.all("link")
    for tag, attrs in reader.found:
        if "src" in attrs:
            assert attrs["src"].startswith("data:image/png;base64,"), tag
        if tag == "a":
            assert attrs["href"].startswith("#")
    assert all(image["alt"] for image in reader.all("img"))
    assert all(len(caption) == 0 for caption in reader.all("figcaption"))
    assert len(reader.all("figure")) == len(reader.all("figcaption"))
    style = text[text.index("<style>") : text.index("</style>")]
    assert "url(" not in style
    assert "@import" not in style
    ids = [attrs["id"] for _, attrs in reader.found if "id" in attrs]
    assert len(ids) == len(set(ids))
    assert {link["href"][1:] for link in reader.all("a")} <= set(ids)
    return reader


def test_a_page_is_well_formed_and_loads_nothing():
    inside = (
        html.paragraph("a < b & c")
        + html.bullets(["one", "two"])
        + html.image(PIXEL, 'a "picture"', "look <here>")
        + html.number_table("caption", ("name", "x"), [("a<b", "1 %")])
        + html.text_table("", ("claim", "verdict"), [("it", html.badge("holds", "good"))])
        + html.folded("more", html.code(["sbs-gym list > a", "b"]))
        + html.definitions({"a": "b"})
    )
    reader = read(html.page("Title & more", [html.paragraph("lead")], [("s", "Section", inside)]))
    told = "".join(reader.texts)
    assert "a < b & c" in told
    assert "1\u00a0%" in told  # number and unit stay together
    assert reader.all("img")[0]["alt"] == 'a "picture"'
    assert reader.all("img")[0]["width"] == "65"
    assert reader.all("html") == [{"lang": "en"}]


def test_nothing_to_list_is_nothing():
    assert html.bullets([]) == ""
    assert html.code([]) == "<pre><code></code></pre>\n"
