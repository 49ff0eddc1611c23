"""Tables on a terminal, on a page, and as text."""
