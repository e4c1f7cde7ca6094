"""What goes wrong at run time when a rule is broken: a review names a failure, never a style."""

from __future__ import annotations

RUFF = {
    "B002": "`++n` and `--n` do nothing in Python: the value stays what it was.",
    "B003": "Assigning to `os.environ` does not clear the environment of child processes.",
    "B004": "`hasattr(x, '__call__')` is true for objects that cannot be called.",
    "B005": "`strip` removes any of these characters, not the text: it takes away too much.",
    "B006": "The default is made once and shared: what one call puts in, every later call finds.",
    "B008": "The call in the default runs once, at import: every later call gets the same old value.",
    "B011": "`assert False` vanishes under `python -O`, and the code runs on.",
    "B012": "Leaving from `finally` swallows the exception that was on its way.",
    "B015": "The comparison's result is thrown away: nothing is checked.",
    "B016": "Raising a value that is no exception raises TypeError instead.",
    "B017": "The test passes for any error, also for the wrong one.",
    "B018": "The expression's result is thrown away: the statement does nothing.",
    "B019": "The cache keeps every instance alive: memory grows until the process ends.",
    "B020": "The loop variable replaces the thing that is looped over.",
    "B021": "An f-string is no docstring: the documentation is lost.",
    "B023": "The function sees the loop variable's last value, whenever it runs.",
    "B025": "The second handler for this exception never runs.",
    "B029": "`except ()` catches nothing: the exception passes.",
    "B030": "What is caught is no exception class: TypeError when an exception comes.",
    "B031": "A group can be read once; the second loop over it is empty.",
    "B032": "This is an annotation, not an assignment: the value is not set.",
    "B035": "Every key of the dict is the same: only the last value is kept.",
    "B039": "The default is shared by all contexts: one sees what another put in.",
    "E722": "A bare `except` also catches KeyboardInterrupt and SystemExit: the program cannot be ended.",
    "F402": "The loop variable hides the import: later uses get the variable.",
    "F502": "The format's mapping does not fit: TypeError at this line.",
    "F507": "The number of placeholders and values differs: TypeError at this line.",
    "F601": "A key stands twice in the dict: the first value is lost.",
    "F631": "An assertion on a tuple is always true: nothing is checked.",
    "F632": "`is` compares identity: equal values that were not interned count as different.",
    "F634": "A condition that is a tuple is always true.",
    "F702": "SyntaxError: `continue` outside a loop.",
    "F706": "SyntaxError: `return` outside a function.",
    "F707": "SyntaxError: a bare `except` must be the last.",
    "F811": "The earlier definition is replaced before anything used it.",
    "F821": "NameError when this line runs: the name is not defined.",
    "F822": "`import *` fails with AttributeError: `__all__` names what does not exist.",
    "F823": "UnboundLocalError: the local variable is read before it is set.",
    "PLW0127": "The variable is assigned to itself: nothing changes.",
    "PLW0129": "An assertion on a non-empty string is always true: nothing is checked.",
    "PLW0133": "The exception is made but not raised: the error passes unnoticed.",
    "PLW0177": "Nothing equals NaN: the comparison is always false.",
    "PLW1508": "The default is no string, so the type depends on whether the variable is set.",
    "PLW1509": "`preexec_fn` may deadlock in a process with threads.",
    "RUF006": "The task may be collected before it ends: keep a reference to it.",
    "RUF016": "The index is of a wrong type: TypeError at this line.",
    "invalid-syntax": "SyntaxError: the file cannot be imported.",
}
PREFIXES = ("PLE",)
"""Families of ruff's rules that are all about errors at run time."""

BANDIT = {
    "B102": "Text that reaches `exec` runs as code.",
    "B201": "The debugger runs any code for whoever reaches the page.",
    "B202": "A crafted archive writes outside the folder it is extracted to.",
    "B301": "Crafted data runs code when it is unpickled.",
    "B307": "Text that reaches `eval` runs as code.",
    "B310": "A `file:` address reads local files.",
    "B324": "A collision can be made: two inputs with the same hash.",
    "B501": "Anyone on the way can read and change the traffic.",
    "B506": "Crafted YAML makes any Python object and runs code.",
    "B602": "A `;` in the input runs a second command.",
    "B605": "A `;` in the input runs a second command.",
    "B608": "A quote in the value changes the statement: SQL injection.",
    "B701": "Text of a user is shown as markup: cross-site scripting.",
}
MYPY = {
    "arg-type": "The function is given a value of a type that it does not handle.",
    "assignment": "The name gets a value of a type that its readers do not expect.",
    "attr-defined": "AttributeError when this line runs: there is no such attribute.",
    "call-arg": "TypeError when this line runs: the call does not fit the parameters.",
    "call-overload": "TypeError when this line runs: no form of the function takes these values.",
    "dict-item": "The dict gets an entry of a type that its readers do not expect.",
    "func-returns-value": "The function returns nothing, so the name is always None.",
    "index": "The index is of a type that does not work here: TypeError or KeyError.",
    "list-item": "The list gets an item of a type that its readers do not expect.",
    "name-defined": "NameError when this line runs: the name is not defined.",
    "operator": "TypeError when this line runs with these types.",
    "return-value": "The caller gets a value of another type than it was promised.",
    "union-attr": "AttributeError when the value is of the type that lacks the attribute.",
    "used-before-def": "UnboundLocalError or NameError: the name is read before it is set.",
}
"""Errors of other codes are about annotations, which fail nowhere."""
IS_NONE = "When the value is None, this line fails: {}"
SECRET = "Whoever can read the repository, now or later, can use it."  # noqa: S105 - a sentence
CONFLICT = "A marker of a merge conflict was left in the file: it is no valid code."


def of_ruff(rule: str, message: str) -> str:
    """Return the failure of a broken rule, or "" for a rule that is only about style."""
    if rule in RUFF:
        return RUFF[rule]
    return f"{message}: an error when this line runs." if rule.startswith(PREFIXES) else ""


def of_mypy(rule: str, message: str) -> str:
    """Return the failure of a type error, or "" where nothing goes wrong at run time."""
    failure = MYPY.get(rule, "")
    return IS_NONE.format(failure) if failure and "None" in message else failure


def of_bandit(rule: str, message: str) -> str:
    return BANDIT.get(rule, message)
