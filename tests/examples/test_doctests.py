"""The examples in the docstrings of the package do what they say."""

import doctest
import importlib
import inspect
import pkgutil

import pytest

import torch_pruning

MODULES = ["torch_pruning", *(m.name for m in pkgutil.walk_packages(torch_pruning.__path__, "torch_pruning."))]


@pytest.mark.parametrize("name", MODULES)
def test_examples_in_docstrings(name: str) -> None:
    module = importlib.import_module(name)
    result = doctest.testmod(module, optionflags=doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0, "see the output above"


@pytest.mark.parametrize("name", ["plan", "prune", "register_rule"])
def test_public_functions_have_an_example(name: str) -> None:
    assert ">>> " in inspect.getdoc(getattr(torch_pruning, name))
