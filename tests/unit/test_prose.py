"""Docstrings say what a thing does, and every public name has one."""

import ast
from functools import cache

from support.paths import ROOT

FOLDERS = ("reidray", "jobs", "cluster")
QUESTION_WORDS = {"What", "How", "Whether", "Which", "Where", "Who", "Whom", "Whose", "When"}
MAX_QUESTIONS = 0.02
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


@cache
def modules():
    """Return the syntax tree of each module, by its path from the repository."""
    paths = sorted(path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py"))
    return {path.relative_to(ROOT): ast.parse(path.read_text()) for path in paths}


def docstrings():
    """Yield the place and the text of every docstring, those of attributes included."""
    for path, module in modules().items():
        for node in ast.walk(module):
            if not isinstance(node, (ast.Module, *DEFINITIONS)):
                continue
            for statement in node.body:
                match statement:
                    case ast.Expr(value=ast.Constant(value=str() as text)):
                        yield f"{path}:{statement.lineno}", text


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


def test_modules_and_their_public_classes_and_functions_have_docstrings():
    assert len(modules()) > 100
    missing = [
        f"{path}:{getattr(node, 'lineno', 1)} {getattr(node, 'name', 'the module')}"
        for path, module in modules().items()
        for node in without_docstring(module)
    ]
    assert not missing


def without_docstring(module):
    """Yield what lacks a docstring: the module, its public classes and functions, and methods."""
    if not ast.get_docstring(module):
        yield module
    classes = [node for node in module.body if isinstance(node, ast.ClassDef)]
    for scope in [module, *(node for node in classes if not node.name.startswith("_"))]:
        for node in scope.body:
            is_public = isinstance(node, DEFINITIONS) and not node.name.startswith("_")
            if is_public and not (ast.get_docstring(node) or is_documented_elsewhere(node, scope)):
                yield node


def is_documented_elsewhere(node, scope):
    """Return whether it is an overload, or a method of a class that may inherit its docstring."""
    marks = {ast.unparse(mark) for mark in node.decorator_list}
    return "overload" in marks or bool(getattr(scope, "bases", []))
