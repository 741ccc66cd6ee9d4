"""The syntax of prompts that AND composes and that change from step to step."""

from __future__ import annotations

import gc
import time
from itertools import groupby

import pytest

pytest.importorskip("diffusers", minversion="0.41", reason="the standalone host needs it")

from hypothesis import given
from hypothesis import strategies as st

from lib_layerdiffuse.errors import SettingsError
from lib_layerdiffuse.hosts.diffusers.emphasis import parse
from lib_layerdiffuse.hosts.diffusers.prompt_changes import (
    at_each_step,
    check_prompt,
    composed,
    put_before_each,
)

DEEP = 5000


def runs(prompt: str, steps: int = 10) -> list[tuple[str, int]]:
    """Returns what a prompt says, and up to which step it does."""
    said, until = [], 0
    for text, same in groupby(at_each_step(prompt, steps)):
        until += len(list(same))
        said.append((text, until))
    return said


class TestChanges:
    """What a WebUI of today answers to the same texts, at ten steps."""

    @pytest.mark.parametrize(
        ("prompt", "said"),
        [
            ("a [b:c:5] d", [("a b d", 5), ("a c d", 10)]),
            ("[a:b:.5]", [("a", 5), ("b", 10)]),
            ("[a:b: 0.25 ]", [("a", 2), ("b", 10)]),
            ("[a:b:0.05]", [("b", 10)]),
            ("[a:b:5e-1]", [("b", 10)]),
            ("[a:b:1e1]", [("a", 10)]),
            ("[a:b:-1]", [("b", 10)]),
            ("[a:b:-.5]", [("b", 10)]),
            ("[a:b:0]", [("b", 10)]),
            ("[a:b:1]", [("a", 1), ("b", 10)]),
            ("[a:b:1.0]", [("a", 10)]),
            ("[a:b:2.]", [("a", 10)]),
            ("[a:b:99]", [("a", 10)]),
            ("[a:b:+3]", [("a", 3), ("b", 10)]),
            ("[a:b:1e999]", [("a", 10)]),
            ("[a:5]", [("", 5), ("a", 10)]),
            ("[a::5]", [("a", 5), ("", 10)]),
            ("[::5]", [("", 10)]),
            ("[a:[b:c:6]:3]", [("a", 3), ("b", 6), ("c", 10)]),
            ("[(a:1.2):b:5]", [("(a:1.2)", 5), ("b", 10)]),
            ("(a [b:c:5]:1.2)", [("(a b:1.2)", 5), ("(a c:1.2)", 10)]),
            ("((a [b:c:3]", [("((a b", 3), ("((a c", 10)]),
            ("12:30, [a:b:5]", [("12:30, a", 5), ("12:30, b", 10)]),
            ("x ] [a:b:5]", [("x ] a", 5), ("x ] b", 10)]),
            ("[[a:b:5]]", [("[a]", 5), ("[b]", 10)]),
            (r"[a\:b:c:5]", [(r"a\:b", 5), ("c", 10)]),
            (r"\[a:b:5\]", [(r"\[a:b:5\]", 10)]),
            ("x [a:b:5", [("x [a:b:5", 10)]),
            ("[a:b]", [("[a:b]", 10)]),
            ("[a:b:x]", [("[a:b:x]", 10)]),
            ("[5]", [("[5]", 10)]),
            ("[]", [("[]", 10)]),
        ],
    )
    def test_a_word_changes_after_a_step(self, prompt, said):
        assert runs(prompt) == said

    @pytest.mark.parametrize(
        ("prompt", "said"),
        [
            ("[a|b]", ["a", "b", "a", "b"]),
            ("[a|b|]", ["a", "b", "", "a"]),
            ("[|]", ["", "", "", ""]),
            ("[[a|b]:c:2]", ["a", "b", "c", "c"]),
            ("[a|b [c:d:3]]", ["a", "b c", "a", "b d"]),
            (r"[a\|b]", [r"[a\|b]"] * 4),
            ("a | b [c:d:2]", ["a | b c", "a | b c", "a | b d", "a | b d"]),
        ],
    )
    def test_words_take_turns(self, prompt, said):
        assert at_each_step(prompt, 4) == said

    @pytest.mark.parametrize("prompt", ["[a:b:c:5]", "[a:b|c]", "x [a|b:5] y", "([a|b:c:5]:2)"])
    def test_what_means_nothing_is_said(self, prompt):
        with pytest.raises(SettingsError, match=r"\[from:to:when\]"):
            check_prompt(prompt)

    @given(st.text(alphabet="ab ()[]:|.5-\\", max_size=40), st.integers(1, 12))
    def test_any_text_is_read(self, prompt, steps):
        try:
            said = at_each_step(prompt, steps)
        except SettingsError:
            return
        assert len(said) == steps
        for text in said:
            parse(text)

    @pytest.mark.parametrize("pair", ["[]", "()"])
    def test_brackets_in_brackets_by_the_thousand(self, pair):
        nested = pair[0] * DEEP + "a" + pair[1] * DEEP
        assert at_each_step(nested, 1) == [nested]
        if pair == "[]":
            ((_, weight),) = parse(nested)
            assert weight == pytest.approx(0, abs=1e-9)
        else:
            with pytest.raises(SettingsError, match="weighs too much"):
                parse(nested)

    def test_changes_in_changes_by_the_thousand(self):
        nested = "[a:" * DEEP + "b" + ":1]" * DEEP
        assert at_each_step(nested, 2) == ["a", "b"]


class TestAnd:
    @pytest.mark.parametrize(
        ("prompt", "parts"),
        [
            ("a", [("a", 1)]),
            ("a cat :1.2 AND a dog AND a fox:-2.", [("a cat", 1.2), (" a dog", 1), (" a fox", -2)]),
            ("a AND", [("a", 1), ("", 1)]),
            ("aANDb, SAND", [("aANDb, SAND", 1)]),
            ("(a AND b)", [("(a", 1), (" b)", 1)]),
            ("a :.5 AND b : 1e1", [("a", 0.5), (" b : 1e1", 1)]),
            ("at 12:30", [("at 12", 30)]),
            (r"at 12\:30", [(r"at 12\:30", 1)]),
            (r"12\\:30", [(r"12\\", 30)]),
            ("(a:1.2)", [("(a:1.2)", 1)]),
        ],
    )
    def test_the_webuis_syntax(self, prompt, parts):
        assert composed(prompt) == parts

    def test_a_weight_beyond_all_numbers(self):
        with pytest.raises(SettingsError, match="too large"):
            composed("a :" + "9" * 400)

    def test_where_it_means_nothing(self):
        check_prompt("a AND b")
        with pytest.raises(SettingsError, match="AND works in the main prompt only"):
            check_prompt("a AND b", composes=False)

    def test_a_layers_own_prompt_stands_before_each(self):
        assert put_before_each("x", "a :2 AND b") == "x, a :2 AND x, b"
        assert put_before_each("", " a AND b") == " a AND b"
        assert put_before_each("x", "") == "x"


@pytest.mark.parametrize(
    ("text", "blank"),
    [
        ("a{} BREAK{}b", " "),
        ("[a{}:{}b:5]", "\n"),
        ("(a:{} 1)", " "),
        ("(a:{}", "1"),
        (":{}b", ": "),
        ("{}a{}", "("),
        ("{}a{}", "["),
        ("[{}|{}]", "\\"),
    ],
)
def test_time_grows_as_the_prompt_does(request, text, blank):
    """32 times the length: quadratic work would take 1024 times as long."""

    def takes(count: int) -> float:
        prompt = text.format(*[blank * count] * 2)

        def once() -> float:
            start = time.process_time()
            try:
                for said, _ in composed(prompt):
                    for step in at_each_step(said, 1):
                        parse(step)
            except SettingsError:
                pass
            return time.process_time() - start

        return min(once() for _ in range(3))

    gc.disable()  # What else is in memory must not count.
    request.addfinalizer(gc.enable)
    assert takes(32_000) < 300 * max(takes(1_000), 1e-4)
