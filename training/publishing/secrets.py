"""What does a text hold that is nobody else's business? Paths of a machine, tokens, keys and passwords by their form.

Everything is searched as bytes, so in any encoding that agrees with ASCII, and in binary files. Bytes between which NUL
bytes stand (UTF-16, UTF-32) are searched without these, and what is escaped (in JSON, also inside of JSON, in Markdown,
HTML and addresses: `\\/`, `\\u002f`, `&#47;`, `%2F`) as what it means. Base64 and compressed data are not unpacked.
"""

import os
import re
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator
from functools import cache, cached_property
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from gengram.printable import make_printable


class Kind(NamedTuple):
    """One kind of private text.

    Attributes:
        name: as `--allow` knows it.
        said: what messages call it.
        pattern: over bytes; of its last group or, without groups, of the whole match, the beginning is the place.
        hints: lower-case texts; where none of them is, the pattern does not fit either.
        is_secret: whether messages must not show it.
        may_go: whether `--allow` can let it go up.
    """

    name: str
    said: str
    pattern: re.Pattern[bytes]
    hints: tuple[bytes, ...]
    is_secret: bool = True
    may_go: bool = True


class Found(NamedTuple):
    """A place in a text: offset in bytes, the kind, and the bytes themselves without escapes."""

    start: int
    kind: Kind
    text: bytes


# Neither inside of a word; or, in a binary file, behind the byte with the length of a string, which may look like one.
_ALONE = (rb"(?<![A-Za-z0-9]%s)", rb"(?<=[\x00-\x1f][A-Za-z0-9]%s)")
# The same for paths, but also neither inside of a relative path or an address nor behind a part that is filled in; the
# third is an option of a compiler, -I/home/alice.
_ALONE_PATH = (rb"(?<![\w/.~@})\]%%*\\-]%s)", rb"(?<=[\x00-\x1f][^./~]%s)", rb"(?<=[\s\"'\x00]-[A-Za-z]%s)")
_END = rb"(?![A-Za-z0-9])"


def _begin(*prefixes: bytes, alone: tuple[bytes, ...] = _ALONE) -> bytes:
    """One of the prefixes, not inside of a word. These come first in the pattern, by which `re` is much faster."""
    ways = [prefix + b"(?:" + b"|".join(way % prefix for way in alone) + b")" for prefix in prefixes]
    return b"(?:" + b"|".join(ways) + b")"


def _tell_path(pattern: bytes, *hints: bytes) -> Kind:
    return Kind("path", "an absolute path", re.compile(pattern), hints, is_secret=False)


_PART = rb"[^\s\"'`,;)\]<>|\\\x00-\x1f]"
_WINDOWS_PART = rb"[^\s\"'`,;)\]<>|\x00-\x1f]"
_FILLED_IN = rb"(?![$<{*%]|\.\.\.|path/to\b)"
# First folders below which machines keep the files of people; `/usr`, `/etc` and the like are the same everywhere.
_ROOTS = (
    rb"(?:home|Users|users|root|tmp|mnt|media|data|scratch|work|workspace|workspaces|workdir|var|opt|srv|private"
    rb"|Volumes|gpfs|lustre|beegfs|ceph|cephfs|nfs|afs|net|dbfs|storage|content|kaggle|cluster|nobackup|projects"
    rb"|project|groups|group|labs|lab|shared|datasets|hpc)"
)
_WINDOWS_ROOTS = rb"(?i:Users|Documents and Settings|home|data|work|projects?|temp|tmp|scratch)"

# Names of what only its owner should know, however their words are joined.
_WORDS = (b"password", b"passwd", b"passphrase")
_KEYS = tuple(
    name.replace(b" ", between)
    for name in (b"api key", b"secret key", b"secret access key", b"client secret")
    + tuple(which + b" token" for which in (b"access", b"auth", b"bearer", b"refresh", b"session"))
    for between in (b"_", b"-", b"")
)
_IS = rb"[\"']?\s{0,3}[:=]\s{0,3}"
_VALUE = rb"[^\s\"'<>${}\[\]\x00-\x1f]{8,256}"
_BARE_VALUE = rb"[A-Za-z0-9+/=_~!@#^*.-]{12,256}(?![A-Za-z0-9(\[])"

KINDS = (
    _tell_path(
        _begin(b"/", alone=_ALONE_PATH) + rb"(?:" + _ROOTS + rb"\d{0,3}/"
        rb"|(?:[\w.+-]{1,64}/){1,3}(?:home|Users|scratch)\d{0,3}/(?=\w))" + _FILLED_IN + _PART + rb"{1,1024}",
        b"/",
    ),
    # No `~/.cache`, which is the same for everybody. `~alice/`, but not `~mg/ml`: the end, a slash or dot behind it.
    _tell_path(
        _begin(b"~", alone=_ALONE_PATH) + rb"(?:/" + _FILLED_IN + rb"\w" + _PART + rb"{0,1024}|[a-z_][\w-]{0,31}/"
        rb"(?:(?=[\s\"'`,;)\]\x00]|\Z)|" + _PART + rb"{0,255}?[/.]\w" + _PART + rb"{0,255}))",
        b"~",
    ),
    # Behind a single backslash n may be the end of a line and no name.
    _tell_path(
        rb"(?<![A-Za-z0-9])[A-Za-z]:(?:\\{1,4}" + _WINDOWS_ROOTS + rb"[\\/]|/" + _WINDOWS_ROOTS + rb"/"
        rb"|(?:\\{2,4}|\\(?![nrtbfuvx0-9]))[\w~][\w.~-]{0,63}(?:[\\/]|\.\w))" + _WINDOWS_PART + rb"{1,1024}",
        b":\\",
        b":/",
    ),
    _tell_path(
        rb"\\\\(?<![\\\w:]..)[A-Za-z0-9][\w.-]{1,63}\\[\w$.-]{1,63}\\" + _WINDOWS_PART + rb"{1,1024}",
        b"\\\\",
    ),
    _tell_path(
        _begin(b"file:") + rb"/{1,3}" + _FILLED_IN + rb"[^\s/\"'`<>\x00-\x1f]" + _PART + rb"{1,1024}", b"file:/"
    ),
    Kind(
        "hub-token",
        "a token of the Hub",
        re.compile(_begin(b"hf_", b"api_org_") + rb"([A-Za-z0-9]{20,256})" + _END),
        (b"hf_", b"api_org_"),
        may_go=False,
    ),
    Kind(
        "github-token",
        "a token of GitHub",
        re.compile(
            _begin(b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_") + rb"([A-Za-z0-9]{30,256})"
            rb"|" + _begin(b"github_pat_") + rb"(\w{30,256})"
        ),
        (b"ghp_", b"gho_", b"ghu_", b"ghs_", b"ghr_", b"github_pat_"),
    ),
    Kind("gitlab-token", "a token of GitLab", re.compile(_begin(b"glpat-", b"gldt-") + rb"([\w-]{20,256})"), (b"gl",)),
    # Sixteen letters of amino acids only are a peptide.
    Kind(
        "aws-key",
        "an access key of AWS",
        re.compile(_begin(b"AKIA", b"ASIA", b"ABIA") + rb"((?=[A-Z0-9]{0,15}[0-9BJOUXZ])[A-Z0-9]{16})" + _END),
        (b"akia", b"asia", b"abia"),
    ),
    Kind(
        "google-key",
        "a key of Google",
        re.compile(
            _begin(b"AIza") + rb"([\w-]{35})" + _END + rb"|" + _begin(rb"ya29\.", b"GOCSPX-") + rb"([\w-]{24,512})"
        ),
        (b"aiza", b"ya29.", b"gocspx-"),
    ),
    Kind("azure-key", "a key of Azure", re.compile(rb"AccountKey=([A-Za-z0-9+/]{60,128}={0,2})"), (b"accountkey=",)),
    Kind(
        "ai-key",
        "a key of a service for AI",
        re.compile(
            _begin(b"sk-")
            + rb"((?:proj|svcacct|admin|ant|or)-[\w-]{20,256}|(?=[A-Za-z]{0,63}\d)[A-Za-z0-9]{32,256}"
            + _END
            + rb")|"
            + _begin(b"gsk_", b"r8_", b"wandb_v1_")
            + rb"(\w{32,256})"
        ),
        (b"sk-", b"gsk_", b"r8_", b"wandb_v1_"),
    ),
    Kind(
        "chat-token",
        "a token or hook of Slack or Discord",
        re.compile(
            _begin(b"xox") + rb"([a-z]-[A-Za-z0-9-]{10,256})|" + _begin(b"xapp-") + rb"(\d-[A-Za-z0-9-]{10,256})"
            rb"|hooks\.slack\.com/(?:services|workflows|triggers)/(\w[\w/]{16,256})"
            rb"|discord(?:app)?\.com/api/webhooks/\d{1,32}/([\w-]{30,256})"
        ),
        (b"xox", b"xapp-", b"hooks.slack.com/", b"/api/webhooks/"),
    ),
    Kind(
        "package-token",
        "a token of a package registry",
        re.compile(_begin(b"npm_") + rb"([A-Za-z0-9]{36})" + _END + rb"|" + _begin(b"pypi-AgE") + rb"([\w-]{40,512})"),
        (b"npm_", b"pypi-age"),
    ),
    Kind(
        "stripe-key",
        "a key of Stripe",
        re.compile(_begin(b"sk_live_", b"rk_live_", b"whsec_") + rb"([A-Za-z0-9]{20,256})"),
        (b"k_live_", b"whsec_"),
    ),
    Kind(
        "private-key",
        "a private key",
        re.compile(
            rb"-----BEGIN (?:[A-Z0-9]{1,16} ){0,4}PRIVATE KEY(?: BLOCK)?-----|PuTTY-User-Key-File-\d:"
            rb"|AGE-SECRET-KEY-1[0-9A-Z]{58}"
        ),
        (b"private key", b"putty-user-key-file-", b"age-secret-key-"),
    ),
    # No image by its digest (`docker://name:tag@sha256:...`), and nothing that is yet to be filled in.
    Kind(
        "url-password",
        "an address with a password",
        re.compile(
            rb"://(?![$<{*%])[^\s/:@\"'`<>\\\x00-\x1f]{0,256}:(?![$<{*])[^\s/@\"'`<>\\\x00-\x1f]{1,256}"
            rb"@(?!sha\d)[\w\[]"
        ),
        (b"://",),
    ),
    Kind(
        "signed-url",
        "an address that lets its bearer in",
        re.compile(rb"[?&;](?i:X-Amz-Signature|X-Goog-Signature|Signature|sig)=([A-Za-z0-9%+/=_-]{32,1024})"),
        (b"signature=", b"sig="),
    ),
    Kind(
        "json-web-token",
        "a JSON web token",
        re.compile(_begin(b"eyJ") + rb"([\w-]{10,1024}\.eyJ[\w-]{10,1024}\.[\w-]{16,1024})"),
        (b"eyj",),
    ),
    # A key has digits, and so has a password without quotes: `api_key = read(key)` is no secret.
    Kind(
        "password",
        "a password or key behind its name",
        re.compile(
            rb"(?i:" + b"|".join(_WORDS) + rb")" + _IS + rb"[\"'](" + _VALUE + rb")[\"']"
            rb"|(?i:" + b"|".join((*_WORDS, *_KEYS)) + rb")" + _IS + rb"[\"']?(?=[^\s\"']{0,255}\d)"
            rb"(?:(?<=[\"'])(" + _VALUE + rb")[\"']|(?=[^\s\"']{0,255}[A-Za-z])(" + _BARE_VALUE + rb"))"
            rb"|(?i:authorization)" + _IS + rb"[\"']?(?i:bearer|basic|token)\s{1,3}([A-Za-z0-9+/=_.~-]{16,1024})"
        ),
        (*_WORDS, *_KEYS, b"authorization"),
    ),
)
"""What is searched for everywhere; several rows may be of one kind."""

JSON_PATH = _tell_path(
    rb'"((?:/|~/)[^"\s/]{1,255}/' + _FILLED_IN + rb'[^"]{1,1024}|[A-Za-z]:[\\/][^"\s]{1,1024}|file:[^"]{1,1024})"',
    *(b'"/', b'"~', b":\\", b":/", b'"file:'),
)
"""In a JSON file that holds no vocabulary, every string that is an absolute path, wherever that leads."""

CELL_PATH = _tell_path(
    rb"\A\s*(/(?:[^/\s]{1,255}/){3,64}[^/\s]{1,255}|/(?:[^/\s]{1,255}/){2,64}[^/\s]{0,255}\.\w{1,8}|~[a-z_][\w-]{0,31}/\S*)\s*\Z",
    *(b"/", b"~"),
)
"""A cell of a table that is nothing but a path: three folders deep, or two and a file with an ending."""

_PRINTABLE = re.compile(rb"[ -~]{10}")
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
# Of each kind, in a text of at most some megabytes.
_MOST = 100
# How deep JSON inside of JSON is read.
_NESTING = 3
_NUL = re.compile(rb"\x00+")
_ESCAPE = re.compile(
    rb"\\(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|([!-/:-@\[-`{-~])|[nrtbf])|%([0-9a-fA-F]{2})"
    rb"|&(?:#(?:[xX]([0-9a-fA-F]{1,6})|([0-9]{1,7}))|(amp|lt|gt|quot|apos));"
)
_ENTITIES = {b"amp": b"&", b"lt": b"<", b"gt": b">", b"quot": b'"', b"apos": b"'"}


class Search:
    """A search for some kinds of private text at a time.

    Args:
        kinds: what to search for.
    """

    def __init__(self, kinds: Iterable[Kind] = KINDS):
        self.kinds = tuple(kinds)

    @cached_property
    def _hints(self) -> re.Pattern[bytes]:
        return re.compile(b"|".join(re.escape(hint) for kind in self.kinds for hint in kind.hints))

    def is_clean(self, text: bytes) -> bool:
        """Whether a text is quickly seen to hold nothing, however it is cut into pieces; False is no finding yet."""
        return _is_plain(text) or not (_has_escapes(text) or b"\x00" in text or self._hints.search(text.lower()))

    def find(self, text: bytes) -> list[Found]:
        """Find what is in a text, in the order of the places; what several ways of reading show counts once.

        Of a kind that is there hundreds of times, the first ones are enough.
        """
        if _is_plain(text):
            return []
        found: dict[tuple[str, int], Found] = {}
        for view, trace in _read(text):
            lowered = view.lower()
            if not self._hints.search(lowered):
                continue
            for kind in self.kinds:
                if not any(hint in lowered for hint in kind.hints):
                    continue
                for match in islice(_match(kind, view), _MOST):
                    group = match.lastindex or 0
                    start = trace(match.start(0 if kind.is_secret else group))
                    found.setdefault((kind.name, start), Found(start, kind, match[group]))
        kept: list[Found] = []
        for one in sorted(found.values(), key=lambda one: one.start):
            # A path in a path is one, however many patterns know it.
            if not any(
                one.kind.name == other.kind.name and one.start < other.start + len(other.text) for other in kept[-3:]
            ):
                kept.append(one)
        return kept


def name_places(*folders: Path) -> tuple[Kind, ...]:
    """Return the kind, or none, of the paths below folders of this machine, and below the home of who runs this."""
    home = Path(os.path.expanduser("~"))
    places = {str(place) for folder in (home, *folders) for place in (folder.absolute(), folder.resolve())}
    known = sorted((place.encode() for place in places if len(Path(place).parts) > 2), reverse=True)
    if not known:
        return ()
    pattern = b"|".join(_begin(place, alone=_ALONE_PATH) for place in map(re.escape, known))
    return (_tell_path(b"(?:" + pattern + rb")(?![\w-])" + _PART + rb"{0,1024}", *(place.lower() for place in known)),)


def hide_secrets(text: str) -> str:
    """Return a text that is to be shown, with `***` for every secret in it and without letters that move a cursor."""
    data = text.encode("utf-8", "surrogateescape")
    for kind in KINDS:
        if kind.is_secret:
            data = kind.pattern.sub(b"***", data)
    return make_printable(data.decode("utf-8", "backslashreplace"))


def _match(kind: Kind, text: bytes) -> Iterator[re.Match[bytes]]:
    for match in kind.pattern.finditer(text):
        found = match[match.lastindex or 0]
        if not (_is_example(found) if kind.is_secret else _is_noise(found, text)):
            yield match


def _is_noise(path: bytes, text: bytes) -> bool:
    """Whether what looks like a path (`~/x`, `C:\\x`) is a chance among the numbers of a binary file."""
    return not path.startswith((b"/", b"file:")) and not _PRINTABLE.match(path) and bool(_CONTROL.search(text))


def _is_plain(text: bytes) -> bool:
    """Whether there are only bases, numbers and what separates them."""
    return not text.translate(None, b"ACGTUNacgtun0123456789,;.\t\r\n ")


def _is_example(text: bytes) -> bool:
    """Whether something stands for a token (`hf_XXXXXXXX`) or is made of bases."""
    letters = set(text.upper())
    return letters <= set(b"X*.") or (len(letters) > 1 and letters <= set(b"ACGTUN"))


def _has_escapes(text: bytes) -> bool:
    return b"\\" in text or b"%" in text or b"&" in text


def _read(text: bytes) -> Iterator[tuple[bytes, Callable[[int], int]]]:
    """Yield the ways of reading a text: as it is, without NUL bytes, without escapes; and how offsets lead back."""
    steps: list[tuple[re.Pattern[bytes], bytes]]
    for steps in ([], [(_NUL, text)]) if b"\x00" in text else ([],):
        view = _NUL.sub(b"", text) if steps else text
        yield view, _lead_back(steps)
        for _ in range(_NESTING):
            plain = _ESCAPE.sub(_unescape, view) if _has_escapes(view) else view
            if plain == view:
                break
            steps, view = [*steps, (_ESCAPE, view)], plain
            yield view, _lead_back(steps)


def _unescape(match: re.Match[bytes]) -> bytes:
    """The meaning of an escape; blanks for the ends of lines, so that lines can be counted, and for what is no text."""
    if match.re is _NUL:
        return b""
    if match[3]:
        return match[3]
    if match[7]:
        return _ENTITIES[match[7]]
    number = int(match[1] or match[2] or match[4] or match[5] or b"20", 16) if not match[6] else int(match[6])
    return b" " if number < 0x20 or 0xD800 <= number < 0xE000 or number > 0x10FFFF else chr(number).encode()


def _lead_back(steps: list[tuple[re.Pattern[bytes], bytes]]) -> Callable[[int], int]:
    """Return what turns an offset behind the steps into one before; a table of each step is made where one is asked."""

    @cache
    def tabulate(step: int) -> tuple[list[int], list[int]]:
        ends, shifts = [0], [0]
        for match in steps[step][0].finditer(steps[step][1]):
            shift = shifts[-1] + len(match[0]) - len(_unescape(match))
            ends.append(match.end() - shift)
            shifts.append(shift)
        return ends, shifts

    def trace(offset: int) -> int:
        for step in reversed(range(len(steps))):
            ends, shifts = tabulate(step)
            offset += shifts[bisect_right(ends, offset) - 1]
        return offset

    return trace


__all__ = ["CELL_PATH", "JSON_PATH", "KINDS", "Found", "Kind", "Search", "hide_secrets", "name_places"]
