"""How each platform is pointed at mcsdns: the texts that `mcsdns stub` prints.

`templates/` has the table of platforms and a text for each, `render` reads addresses and zones and
puts them in. Nothing is sent or changed here. The files of `corefile-examples/` are these texts
with example addresses.
"""
