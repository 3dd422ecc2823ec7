"""What private texts look like: each kind in many forms and encodings, and what only looks like one."""

import html
import json
import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gengram.markdown import escape_text
from gengram.training.publishing.secrets import CELL_PATH, JSON_PATH, KINDS, Search, hide_secrets, name_places

SEARCH = Search()
LETTERS = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJ0123456789"
# Put together here, so that no file of the project holds one.
HUB, GITHUB = "hf" + "_" + LETTERS[:34], "gh" + "p_" + LETTERS[:36]
KEY = "-----BEGIN OPENSSH PRIVATE" + " KEY-----"
ADDRESS = "https" + "://alice:Tr0ub4dor-and-3@data.example.org/weights"


def find(text: str | bytes, search: Search = SEARCH) -> list[str]:
    return [found.kind.name for found in search.find(text if isinstance(text, bytes) else text.encode())]


@pytest.mark.parametrize(
    "kind, text",
    [
        ("hub-token", HUB),
        ("hub-token", "api_org" + "_" + LETTERS[:34]),
        ("hub-token", "token=hf" + "_" + "a" * 34),
        *(("github-token", f"gh{letter}" + "_" + LETTERS[:36]) for letter in "pousr"),
        ("github-token", "github" + "_pat_" + "11ABCDEFG0" + LETTERS[:12] + "_" + LETTERS),
        ("gitlab-token", "glpat" + "-" + LETTERS[:20]),
        ("aws-key", "AK" + "IAQ3EGRZ7TK5WXB2JD"),
        ("aws-key", "AS" + "IAQ3EGRZ7TK5WXB2JD"),
        ("password", "aws_secret_access_key = " + LETTERS[-30:] + "/+" + LETTERS[:8]),
        ("google-key", "AI" + "za" + LETTERS[:35]),
        ("azure-key", "Account" + "Key=" + LETTERS + LETTERS[:40] + "=="),
        ("ai-key", "sk" + "-ant-api03-" + LETTERS),
        ("ai-key", "sk" + "-proj-" + LETTERS),
        ("ai-key", "sk" + "-" + LETTERS[-30:] + LETTERS[:18]),
        ("chat-token", "xox" + "b-123456789012-" + LETTERS[:24]),
        ("chat-token", "https://hooks.slack" + ".com/services/T0123ABCD/B0123ABCD/" + LETTERS[:24]),
        ("chat-token", "https://discord" + ".com/api/webhooks/123456789/" + LETTERS),
        ("package-token", "npm" + "_" + LETTERS[:36]),
        ("stripe-key", "sk" + "_live_" + LETTERS[:24]),
        ("private-key", KEY),
        ("private-key", KEY.replace("OPENSSH ", "")),
        ("private-key", KEY.replace("OPENSSH", "RSA")),
        ("private-key", KEY.replace("OPENSSH", "PGP").replace("KEY-", "KEY BLOCK-")),
        ("private-key", "PuTTY-User-Key" + "-File-3: ssh-ed25519"),
        ("url-password", ADDRESS),
        ("url-password", "postgresql+psycopg2" + "://alice:secret@db/runs"),
        ("signed-url", "https://x.org/a?X-Amz-" + "Signature=" + "0a" * 32),
        ("json-web-token", "ey" + "JhbGciOiJIUzI1NiJ9.ey" + "JzdWIiOiIxMjM0NTY3ODkwIn0." + LETTERS[:43]),
        ("password", "WANDB_API_KEY=" + "0123456789abcdef" * 2 + "01234567"),
        ("password", '{"password": "correct-horse"}'),
        ("password", "client-secret: 'a1!b2!c3!d4'"),
        ("password", "Authorization: Bearer " + LETTERS),
        ("path", "/home/alice"),
        ("path", "see (/data/genomes/hg38.fa)"),
        ("path", "login.cluster:/scratch/alice/run"),
        ("path", "gcc -I/home/alice/include"),
        ("path", "/cluster/home/alice/run"),
        ("path", "/work2/alice/run"),
        ("path", "~/models/x"),
        ("path", "~alice-smith/"),
        ("path", "in ~alice/run.yaml"),
        ("path", "C:\\Users\\alice\\x"),
        ("path", "D:\\genomes\\hg38.fa"),
        ("path", "D:/Users/alice"),
        ("path", "\\\\server\\share\\alice"),
        ("path", "file:///opt2/alice"),
    ],
)
def test_each_kind_in_each_encoding(kind, text):
    forms = [text.encode(code) for code in ("utf-8", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "utf-32-be")]
    forms += [b"\xe9\n" + text.encode("latin-1") + b"\n\xff", b"\x00\xff\x01\n" + text.encode() + b"\x00\x15\xff"]
    forms += [json.dumps(text).encode(), json.dumps(json.dumps({"a": [text]})).encode()]
    forms += ["".join(f"\\u{ord(letter):04x}" for letter in text).encode()]
    for form in forms:
        assert find(form) == [kind], form
    assert find(escape_text(text)) == [kind], escape_text(text)
    assert find(f"see {html.escape(text)} there") == [kind]
    if "\\" not in text:  # A program that escapes slashes escapes backslashes, too.
        assert find(text.replace("/", "\\/")) == [kind]
        assert find(text.replace("/", "%2F")) == find(text.replace("/", "&#47;")) == [kind]


@pytest.mark.parametrize("length", [37, 48, 57, 65, 90, 122])
def test_a_string_behind_the_byte_with_its_length(length):
    """As protobuf writes the pieces of a SentencePiece model: 48 is the letter 0, 65 is A."""
    text = HUB.encode().ljust(length, b" ")
    assert find(b"\x00\x0a" + bytes([length]) + text + b"\x15\x00\x00\x80\x3f") == ["hub-token"]
    path = b"/home/alice/corpus.txt".ljust(length, b" ")
    assert find(b"\x00\x0a" + bytes([length]) + path + b"\x15\x00\x00\x80\x3f") == ["path"]


@pytest.mark.parametrize(
    "text",
    [
        "hf_",
        "hf_transfer, hf_hub_download, hf_internal_testing",
        "hf_" + "X" * 34,
        "hf_ACGTTGCAACGTTGCAACGTTGCAACGTTGCAACGT",
        "ghp_ gho_ github_pat_",
        "AKIA",
        "AKIAVLLGGSEEAQRKLLLL",  # a peptide
        "AKIAVLLGGSEEAQRKLLLLVVAADDEEFFGGHHIIKK",
        "sk-learn, task-specific-pretraining-of-language-models-2024",
        "/",
        "//",
        "/home",
        "/home/",
        "5'/3' UTR",
        "A/C/G, either/or, 1/2, tata/none, km/h",
        "~10 kb/min, ~5mg/ml",
        "~mg/ml",
        "a/home/b ../home/x ./data/x {url}/data/x $HOME/data/x",
        "/home/$USER/x /home/<you>/x /data/{name}/x /data/... file:///path/to/x",
        "https://huggingface.co/data/models",
        "http://host:8080/home/alice",
        "https://alice@example.org/x",
        "https://${USER}:${TOKEN}@example.org",
        "http://host:80/a@b",
        "ssh://git@github.com/lab/x and git@github.com:lab/x",
        "mailto:alice@example.org",
        "docker://image:1.0@sha256:0123abcd",
        "s3://bucket/data/x gs://bucket/home/x hf://datasets/lab/x",
        "chr1:1000-2000 HLA-A*01:01:01:01",
        "Q:\\nA:\\n",
        "'Q:\\nIs this a promoter? A:\\nyes'",
        "\\d\\w+ \\alpha\\beta \\\\hline",
        "password: str | None = None",
        "api_key = os.environ['KEY1']",
        "api_key='your-api-key', 'refresh_token': 'the-token-that-was-given'",
        '"pad_token": "[PAD]", "mask_token": "[MASK]"',
        "token = tokenizer.convert_ids_to_tokens(ids1)",
        "#!/usr/bin/env python3 /dev/null /etc/hosts ~/.cache/huggingface",
        "-----BEGIN CERTIFICATE-----",
    ],
)
def test_what_only_looks_like_it(text):
    assert find(text) == find(text.encode("utf-16")) == []
    if not any(mark in text for mark in ('"', "\\")):
        assert find(json.dumps(text), Search((*KINDS, JSON_PATH))) == []


@given(st.text("ACGTN", max_size=300), st.sampled_from(["ACGTN", "acgtn", "ACGUN", "ACDEFGHIKLMNPQRSTVWY"]), st.data())
def test_sequences_are_never_found(bases, letters, data):
    more = data.draw(st.text(letters, max_size=300))
    assert find(f"{bases}\n{more},{bases}", Search((*KINDS, CELL_PATH, JSON_PATH))) == []


@settings(max_examples=200)
@given(st.lists(st.text(st.characters(min_codepoint=32, max_codepoint=500, exclude_characters="\\/:~&%"), max_size=12)))
def test_a_vocabulary_is_never_found(tokens):
    assert find(json.dumps({token: number for number, token in enumerate(tokens)})) == []


@settings(max_examples=100)
@given(
    root=st.sampled_from(["/home", "/Users", "/tmp", "/mnt", "/scratch1"]),
    rest=st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,8}", fullmatch=True), min_size=1, max_size=4),
    before=st.sampled_from(["", "path=", '"', "(", "see ", "'", "é", "host:"]),
)
def test_a_path_below_a_home_is_found_anywhere_and_told_whole(root, rest, before):
    path = "/".join([root, *rest])
    (found,) = SEARCH.find(f"{before}{path} end".encode())
    assert (found.start, found.text) == (len(before.encode()), path.encode())


@given(
    st.sampled_from([HUB, GITHUB, ADDRESS, KEY]),
    st.binary(max_size=40),
    st.sampled_from(["utf-8", "utf-16-be", "utf-32"]),
)
def test_a_secret_is_found_in_any_surroundings_and_at_its_place(secret, around, encoding):
    """A letter or digit before it may be a part of it, so a blank is put there."""
    (found, *_) = [one for one in SEARCH.find(around + b" " + secret.encode(encoding)) if one.kind.name != "path"]
    assert abs(found.start - len(around)) <= 32


def test_places_behind_escapes_are_those_of_the_file():
    text = b'{"a\\u0020b": "\\/\\/ x", "b": "\\/home\\/alice"}'
    (found,) = SEARCH.find(text)
    assert text[found.start :].startswith(b"\\/home") and found.text == b"/home/alice"


def test_any_absolute_path_of_a_json_file_and_of_a_cell():
    assert find('{"a": "/p7/models/x"}') == [] != find('{"a": "/p7/models/x"}', Search((*KINDS, JSON_PATH)))
    cells = Search((*KINDS, CELL_PATH))
    assert find("/p/genes/x/y", cells) == find("/p/genes/x.bed", cells) == find("~alice/x", cells) == ["path"]
    assert find("/C/G/T", cells) == find("a /p/genes/x.bed", cells) == find("/", cells) == []


def test_the_own_home_and_folder_are_private_wherever_they_lie(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/p/user17/alice")
    own = Search((*KINDS, *name_places(tmp_path)))
    assert find("in /p/user17/alice/x", own) == find(f"in {tmp_path}/x", own) == ["path"]
    assert find("in /p/user17/alicex /p/user17", own) == []
    monkeypatch.setenv("HOME", "/")
    assert find("in /p/user17/alice/x", Search(name_places())) == []


def test_secrets_are_not_shown():
    assert hide_secrets(f"model-{HUB}.json") == "model-***.json"
    assert hide_secrets("a\x1b[31mb\nc") == "a\\x1b[31mb\\nc" and hide_secrets("größe.txt") == "größe.txt"


def test_the_time_grows_with_the_size_only():
    """Texts that make a careless expression go back and forth, a quarter of a megabyte each."""
    for piece in (
        "/",
        "~",
        "\\",
        "a:\\",
        "://a:",
        "hf_a",
        "-----BEGIN ",
        "eyJaaaaaaaaaaaa.",
        "password",
        "/a",
        "%2F",
        "\\\\a",
    ):
        started = time.perf_counter()
        SEARCH.find((piece * (250_000 // len(piece))).encode())
        assert time.perf_counter() - started < 20, piece
