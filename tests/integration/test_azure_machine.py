"""Azure's identity services are the machine's own: no proxy stands before them, and none is to see a token."""

import pytest

from tests.integration.azure_rig import StandIn, Tokens, blob_stand_in, stand_in_conf
from tests.integration.test_azure_stand_in import GRANTS, READ, SUM


@pytest.mark.parametrize("name, asked", [("app service", 0), ("machine", 0), ("machine by default", 0), ("service principal", 1)])
def test_by_no_proxy(prelux, name, asked):
    """The last row is an authority, which a proxy may stand before: it would be seen."""
    tokens, seen = Tokens(), []

    def proxied(method, target, fields, body):
        seen.append(target)
        return 502, {}, b""

    with StandIn(tokens.answer) as service, blob_stand_in(tokens.likes) as store, StandIn(proxied) as proxy:
        more, env = GRANTS[name]
        conf = stand_in_conf(store, **more)
        conf["endpoint"] = conf["endpoint"].replace("127.0.0.1", "localhost")
        prelux.env.update(env(service.url, ""), http_proxy=proxy.url, no_proxy="localhost")
        prelux.config({"version": 1, "backends": {"src": conf}, "mappings": [{"local": "/prelux-lake", "remote": "src:/"}]})
        done = prelux.run(READ, check=False)
        assert (done.stdout == SUM) == (asked == 0)
        assert bool(seen) == bool(asked) and bool(tokens.given) == (asked == 0)
