import pytest
from hypothesis import given
from hypothesis import strategies as st

from reidray.errors import UserError
from reidray.scoring.ranking_file import FORBIDDEN, check_names, read_ranking, write_ranking

NAMES = st.text(
    st.characters(exclude_categories=("Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp", "Zs")), min_size=1
).filter(lambda name: not any(mark in name for mark in FORBIDDEN))
SPACED_NAMES = st.lists(NAMES, min_size=1, max_size=3).map(" ".join).filter(lambda n: ": " not in n)


@given(st.dictionaries(SPACED_NAMES, st.lists(SPACED_NAMES, unique=True, max_size=5).map(tuple)))
def test_what_is_written_is_read_back(ranking):
    assert read_ranking(write_ranking(ranking), "reid_test.txt") == ranking


@st.composite
def rankings_as_others_write_them(draw):
    """Draw a ranking, and a file of it with the small differences of other tools."""
    ranking = draw(
        st.dictionaries(SPACED_NAMES, st.lists(SPACED_NAMES, unique=True, max_size=4).map(tuple))
    )
    lines = []
    for line in write_ranking(ranking).decode().splitlines():
        if line.count(":") == 1:
            line = line.replace(": ", draw(st.sampled_from([": ", ":", ":   ", ":\t", " : "])))
        line = line.replace(", ", draw(st.sampled_from([", ", ",", " ,\t", " , , "])))
        if not line.endswith(":"):
            line += draw(st.sampled_from(["", ",", ", ", " ,,", " "]))
        lines.append(draw(st.sampled_from(["", "", " ", "\t"])) + line)
        lines += draw(st.lists(st.sampled_from(["", "  "]), max_size=2))
    text = draw(st.sampled_from(["\n", "\r\n"])).join(lines)
    end = draw(st.sampled_from(["", "\n", "\r\n"]))
    return ranking, (draw(st.sampled_from(["", "\ufeff"])) + text + end).encode()


@given(rankings_as_others_write_them())
def test_any_mix_of_the_forms_of_other_tools_is_read_back(case):
    ranking, data = case
    assert read_ranking(data, "theirs.txt") == ranking


@given(st.text())
def test_a_name_is_refused_or_survives_the_file(name):
    try:
        check_names([name])
    except UserError:
        return
    ranking = {name: (name, "other.jpg")} if name != "other.jpg" else {name: (name,)}
    assert read_ranking(write_ranking(ranking), "reid_test.txt") == ranking


def test_form_is_exact_and_a_query_without_names_has_a_line():
    ranking = {"B.jpg": ["y.jpg"], "a.jpg": [], "b.jpg": ["x.jpg", "a/y.jpg"]}
    assert write_ranking(ranking) == b"B.jpg: y.jpg\na.jpg:\nb.jpg: x.jpg, a/y.jpg\n"


@pytest.mark.parametrize(
    "text",
    [
        "q.jpg: a.jpg, b.jpg\r\np.jpg: c.jpg\r\n",
        "q.jpg: a.jpg,b.jpg\np.jpg: c.jpg",
        "\n\nq.jpg: a.jpg, b.jpg,\n   \np.jpg: c.jpg, \n",
        "\ufeffq.jpg:   a.jpg ,  b.jpg , , \np.jpg: c.jpg\n",
        "q.jpg:a.jpg,b.jpg\np.jpg:c.jpg\n",
        "q.jpg:\ta.jpg,\tb.jpg\r\n\tp.jpg :c.jpg,\r\n",
    ],
)
def test_reader_takes_what_other_tools_write(text):
    expected = {"q.jpg": ("a.jpg", "b.jpg"), "p.jpg": ("c.jpg",)}
    assert read_ranking(text.encode(), "theirs.txt") == expected


@pytest.mark.parametrize(
    ("line", "query", "names"),
    [
        ("10:30.jpg: 9:15.jpg, a.jpg", "10:30.jpg", ("9:15.jpg", "a.jpg")),
        ("10:30.jpg:", "10:30.jpg", ()),
        ("q.jpg:", "q.jpg", ()),
        ("q.jpg: 9:15.jpg", "q.jpg", ("9:15.jpg",)),
        ("10:30.jpg:\ta.jpg", "10:30.jpg", ("a.jpg",)),
    ],
)
def test_a_name_may_hold_a_colon_that_no_space_follows(line, query, names):
    assert read_ranking(line.encode(), "theirs.txt") == {query: names}


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("q.jpg: a.jpg\n10:30.jpg:a.jpg\n", "line 2: several colons and none before a space"),
        ("q.jpg,a.jpg: b.jpg\n", "line 1: expected `query: name"),
        ("q.jpg a.jpg b.jpg\n", "line 1"),
        ("p.jpg: a.jpg\n: a.jpg\n", "line 2"),
        ("q.jpg: a.jpg\n\nq.jpg: b.jpg\n", "line 3"),
        ("q.jpg: a.jpg, b.jpg, a.jpg\n", "'a.jpg' is ranked twice"),
        ("q.jpg: \udcff", "UTF-8"),
    ],
)
def test_reader_names_the_line_that_is_wrong(text, named):
    with pytest.raises(UserError, match=named) as caught:
        read_ranking(text.encode(errors="surrogateescape"), "theirs.txt")
    assert "theirs.txt" in str(caught.value)


@pytest.mark.parametrize(
    "name", ["a, b.jpg", "a,b.jpg", "a: b.jpg", "a\nb.jpg", " a.jpg", 'a"b.jpg', "a\udcff.jpg"]
)
def test_names_that_the_file_cannot_carry_are_refused(name):
    with pytest.raises(UserError, match="cannot stand in"):
        check_names(["fine.jpg", "also: fine".replace(": ", ":"), name])
