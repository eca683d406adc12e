"""Messages of the MRD v1 and Gadgetron protocols, on any stream of bytes.

`reader` and `writer` know every message by its id, one module each knows a kind of item, and
`connection` is what a door talks to.
"""
