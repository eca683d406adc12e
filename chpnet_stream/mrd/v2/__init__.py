"""MRD v2 streams through the mrd-python package (extra `mrd2`), as messages of v1.

`reader` and `writer` stand where those of `mrd.wire` do; `header`, `items` and `meta` say which
field becomes which (docs/mrd2.md has the table).
"""
