"""How each platform is pointed at mcsdns: the texts that `mcsdns stub` prints.

`platforms` is the table of platforms, `templates/` has one text for each, `where` reads addresses
and zones, `render` puts them in. Nothing is asked or changed here. The files of
`corefile-examples/` are these texts with example addresses.
"""
