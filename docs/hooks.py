"""What the pages need beyond the docstrings' markup: `::` before a literal block belongs to the source only."""


def on_page_content(html, **_):
    """Called by mkdocs with the content of each page."""
    return html.replace("<p>::</p>\n", "").replace(" ::</p>", ":</p>").replace("::</p>", ":</p>")
