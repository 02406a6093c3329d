"""Docstrings say what a thing does, and every public name has one."""

import ast

import pytest
from support.paths import ROOT

FOLDERS = ("reidray", "jobs", "cluster")
FILES = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
QUESTION_WORDS = {"What", "How", "Whether", "Which", "Where", "Who", "Whom", "Whose", "When"}
MAX_QUESTIONS = 0.02
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def docstrings():
    """Yield the place and the text of every docstring, those of attributes included."""
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, (ast.Module, *DEFINITIONS)):
                continue
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str() as text)):
                        yield f"{path.relative_to(ROOT)}:{statement.lineno}", text


def test_few_docstrings_open_with_a_question_word():
    texts = dict(docstrings())
    opens = {where: text.split("\n", 1)[0] for where, text in texts.items()}
    found = {
        where: line for where, line in opens.items() if line.split(" ", 1)[0] in QUESTION_WORDS
    }
    share = len(found) / len(texts)
    print(f"{len(found)} of {len(texts)} docstrings open with a question word: {share:.1%}")
    shown = "\n".join(f"{where}: {line}" for where, line in found.items())
    assert share < MAX_QUESTIONS, shown


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_public_modules_classes_and_functions_have_docstrings(path):
    module = ast.parse(path.read_text())
    assert ast.get_docstring(module), "the module has no docstring"
    scopes = [module, *(node for node in module.body if isinstance(node, ast.ClassDef))]
    missing = [
        f"{path.relative_to(ROOT)}:{node.lineno} {node.name}"
        for scope in scopes
        if not getattr(scope, "name", "").startswith("_")
        for node in scope.body
        if isinstance(node, DEFINITIONS) and not node.name.startswith("_")
        if not (ast.get_docstring(node) or is_documented_elsewhere(node, scope))
    ]
    assert not missing


def is_documented_elsewhere(node, scope):
    """Return whether it is an overload, or a method of a class that may inherit its docstring."""
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    return "overload" in marks or bool(getattr(scope, "bases", []))
