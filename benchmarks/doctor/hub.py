"""Can the Hub be reached from here, and does it know the token? The token itself is never shown."""

import os
import time
from urllib.parse import urlsplit

from gengram.benchmarks.doctor.facts import Fact, Step

GROUP = "Hub"
_SECONDS = 10.0  # that an answer may take


def list_steps() -> list[Step]:
    """The address, then the token, which is asked about there."""
    return [Step(GROUP, "endpoint", examine_endpoint, 3 * _SECONDS), Step(GROUP, "token", examine_token, 3 * _SECONDS)]


def name_endpoint(address: str) -> str:
    """An address without what may be a password in it."""
    parts = urlsplit(address)
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], query="", fragment="").geturl()


def examine_endpoint() -> Fact:
    """Whether somebody answers."""
    from huggingface_hub import constants, get_session

    shown = name_endpoint(constants.ENDPOINT)
    data = {"endpoint": shown, "offline": constants.HF_HUB_OFFLINE}
    if constants.HF_HUB_OFFLINE:
        remedy = "unset HF_HUB_OFFLINE to use the Hub"
        return Fact(GROUP, "endpoint", f"{shown}, not asked: HF_HUB_OFFLINE is set", "note", remedy, data)
    begun = time.perf_counter()
    try:
        status = get_session().head(constants.ENDPOINT, timeout=_SECONDS).status_code
    except Exception as error:  # of names, sockets, certificates, proxies
        proxies = sorted(name for name in os.environ if name.lower() in ("http_proxy", "https_proxy", "all_proxy"))
        through = f", through {' and '.join(proxies)}" if proxies else ""
        remedy = (
            "check network and proxy (HTTPS_PROXY), or HF_ENDPOINT; without a network: `gengram models fetch` elsewhere"
        )
        return Fact(
            GROUP, "endpoint", f"{shown} cannot be reached{through} ({type(error).__name__})", "fails", remedy, data
        )
    seconds = time.perf_counter() - begun
    data |= {"status": status, "seconds": seconds}
    if status >= 500:
        return Fact(GROUP, "endpoint", f"{shown} answers with status {status}", "fails", "try again later", data)
    return Fact(GROUP, "endpoint", f"{shown} answers in {seconds * 1e3:.0f} ms", data=data)


def examine_token() -> Fact:
    """Whether there is one, and the Hub takes it."""
    from huggingface_hub import HfApi, constants, get_token
    from huggingface_hub.errors import HfHubHTTPError

    token = get_token()
    if not token:
        return Fact(
            GROUP, "token", "none: public repositories only", "note", "hf auth login, or HF_TOKEN", {"token": False}
        )
    data = {"token": True}
    if constants.HF_HUB_OFFLINE:
        return Fact(GROUP, "token", "there is one, not asked about: HF_HUB_OFFLINE is set", data=data)
    try:
        HfApi().whoami()
    except HfHubHTTPError as error:
        status = getattr(error.response, "status_code", None)
        if status in (401, 403):
            remedy = "hf auth login, or another HF_TOKEN"
            return Fact(
                GROUP, "token", "there is one, and the Hub refuses it", "fails", remedy, {**data, "status": status}
            )
        return Fact(GROUP, "token", f"there is one; the Hub does not say whether it is valid (status {status})", "note",
                    data=data)  # fmt: skip
    except Exception as error:  # no connection: told in the line of the endpoint
        return Fact(GROUP, "token", f"there is one, not asked about ({type(error).__name__})", "note", data=data)
    return Fact(GROUP, "token", "there is one, and the Hub takes it", data=data)


__all__ = ["examine_endpoint", "examine_token", "list_steps", "name_endpoint"]
