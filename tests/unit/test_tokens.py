import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tools.rehearsal import tokens
from tools.rehearsal.tokens import Bearer, Tokens

KEY = b"k" * 32
OURS = Tokens(key=KEY, start="this start", tenant="tenant")


@settings(deadline=None)
@given(st.text() | st.lists(st.text(), max_size=4).map(".".join) | st.binary().map(lambda junk: junk.decode("latin-1")))
def test_junk_speaks_for_nobody(token: str) -> None:
    assert OURS.check(token) is None


@settings(deadline=None)
@given(st.integers(0, 400), st.characters())
def test_a_token_with_one_letter_changed_speaks_for_nobody(at: int, letter: str) -> None:
    token = OURS.person()
    at %= len(token)
    changed = token[:at] + letter + token[at + 1 :]
    assert changed == token or OURS.check(changed) is None


def test_a_person_is_known_for_one_start_and_a_job_for_all() -> None:
    later = Tokens(key=KEY, start="another start", tenant="tenant")
    assert OURS.check(OURS.person()) == Bearer(run_id=None)
    assert later.check(OURS.person()) is None
    assert later.check(OURS.job("run_1")) == Bearer(run_id="run_1")


def test_another_workspace_knows_nobody_of_this_one() -> None:
    other = Tokens(key=b"o" * 32, start="this start", tenant="tenant")
    assert other.check(OURS.person()) is None
    assert not other.check_file("name", "r", OURS.sign_file("name", "r"))


def test_who_may_write_may_read_and_not_the_other_way_round() -> None:
    read, write = OURS.sign_file("name", "r"), OURS.sign_file("name", "w")
    assert OURS.check_file("name", "r", read)
    assert not OURS.check_file("name", "w", read)
    assert OURS.check_file("name", "w", write)
    assert OURS.check_file("name", "r", write)
    assert not OURS.check_file("other", "r", read)
    assert not OURS.check_file("name", "w", {**read, "sp": "w"})
    assert not OURS.check_file("name", "r", {})
    assert not OURS.check_file("name", "r", {**read, "sig": "ä"})


def test_what_is_signed_for_a_file_is_no_token() -> None:
    signed = OURS.sign_file("name", "w")
    text = "\n".join(["name", *(signed[part] for part in ("sv", "sr", "st", "se", "sp"))])
    assert OURS.check(f"{text}.{signed['sig']}") is None


def test_addresses_and_tokens_end(monkeypatch: pytest.MonkeyPatch) -> None:
    token, address, later = OURS.person(), OURS.sign_file("name", "r"), time.time() + tokens.PERSON_SECONDS + 1
    real = time.gmtime
    monkeypatch.setattr(time, "time", lambda: later)
    monkeypatch.setattr(time, "gmtime", lambda seconds=None: real(later if seconds is None else seconds))
    assert OURS.check(token) is None
    assert not OURS.check_file("name", "r", address)
