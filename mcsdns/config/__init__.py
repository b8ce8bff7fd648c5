"""Settings: flags, `MCSDNS_*`, a YAML file and defaults, in that order, by one schema."""

from mcsdns.config.checks import split_address
from mcsdns.config.describe import fields
from mcsdns.config.merge import add_flags, file_of, from_mapping, load
from mcsdns.config.schema import LogFormat, LogLevel, Settings

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
