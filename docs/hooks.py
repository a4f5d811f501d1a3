"""What the reference needs beyond the docstrings."""

import griffe


def on_page_content(html, **_):
    """Called by mkdocs with the content of each page: `::` before a literal block belongs to the source only."""
    return html.replace("<p>::</p>\n", "").replace(" ::</p>", ":</p>").replace("::</p>", ":</p>")


class Attributes(griffe.Extension):
    """Fields of classes have no docstring but that of their type; what they are says the docstring of the class."""

    def on_attribute(self, *, attr, **_):
        if attr.is_special or (attr.parent.is_class and "property" not in attr.labels):
            attr.docstring = None
