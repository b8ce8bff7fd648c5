"""Settings: flags, `MCSDNS_*`, a YAML file and defaults, in that order, by one schema."""

from mcsdns.config.describe import fields
from mcsdns.config.load import add_flags, file_of, from_mapping, load
from mcsdns.config.schema import LogFormat, LogLevel, Settings
from mcsdns.config.validate import split_address

__all__ = [
    "LogFormat",
    "LogLevel",
    "Settings",
    "add_flags",
    "fields",
    "file_of",
    "from_mapping",
    "load",
    "split_address",
]
