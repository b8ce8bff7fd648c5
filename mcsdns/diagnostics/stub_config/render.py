"""A platform's text with addresses and zones in it."""

import functools

import jinja2

from mcsdns.diagnostics.stub_config.platforms import Platform
from mcsdns.diagnostics.stub_config.where import DNS_PORT, Where
from mcsdns.errors import ConfigError


def render(platform: Platform, where: Where) -> str:
    """Return what is to be applied, comments included.

    Raises:
        ConfigError: the platform cannot be told such addresses.
    """
    if platform.dnsmasq_reads and where.port != DNS_PORT:
        _refuse_brackets(platform, where)
    template = _templates().get_template(f"{platform.name}.{platform.suffix}.j2")
    return template.render(
        where=where,
        zones=where.zones,
        command=f"mcsdns stub {platform.name} {where.flags}",
    )


def _refuse_brackets(platform: Platform, where: Where) -> None:
    for host in where.hosts:
        if ":" in host:
            raise ConfigError(
                f"--ip {host}: {platform.name} cannot be told an IPv6 address with a port; "
                "have mcsdns answer on port 53, and leave out --port"
            )


@functools.cache
def _templates() -> jinja2.Environment:
    return jinja2.Environment(
        loader=jinja2.PackageLoader("mcsdns.diagnostics.stub_config"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,  # the texts are no HTML, and what is put in was read by `where`
    )
