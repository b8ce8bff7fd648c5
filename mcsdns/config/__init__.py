"""Settings: flags, `MCSDNS_*`, a YAML file and defaults, in that order, by one schema."""

from mcsdns.config.load import add_flags, fields, fields_of, file_of, from_mapping, load
from mcsdns.config.schema import Effect, Settings
from mcsdns.config.validate import split_address

__all__ = [
    "Effect",
    "Settings",
    "add_flags",
    "fields",
    "fields_of",
    "file_of",
    "from_mapping",
    "load",
    "split_address",
]
