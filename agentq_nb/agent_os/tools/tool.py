"""A function of the notebook as a tool: its name, description and the schema of its arguments."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Annotated, Any, cast

from pydantic import BaseModel, ConfigDict, Field, ValidationError, create_model
from pydantic.errors import PydanticUserError
from pydantic.fields import FieldInfo
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaWarningKind

from agentq_nb.errors import ValidationFailed

# Language models allow 64 characters of this kind, and agents put the server's name before a tool's.
_NAME = re.compile(r"[A-Za-z0-9_-]{1,48}")
_IMPORTER = ("pydantic._internal._validators", "import_string")
_NOT_BY_NAME = {
    inspect.Parameter.POSITIONAL_ONLY: "takes an argument by its position only",
    inspect.Parameter.VAR_POSITIONAL: "takes *arguments",
    inspect.Parameter.VAR_KEYWORD: "takes **arguments",
}


class HostTool:
    """One function that agents may call. ``schema`` is the JSON schema of its arguments."""

    def __init__(self, function: Callable[..., Any]) -> None:
        """Raises ``TypeError``, saying what to do, for what cannot be a tool."""
        self.function = function
        self.name = _name(function)
        self.description = inspect.getdoc(function) or ""
        self._signature = _signature(function, self.name)
        self._arguments = _arguments(self._signature, self.name)
        self.schema = _schema(self._arguments, self.name)

    def __repr__(self) -> str:
        return f"HostTool({self.name}{self._signature})"

    def bound(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Return the arguments by name. Raises ``TypeError`` for arguments that the function does not have."""
        return self._signature.bind_partial(*args, **kwargs).arguments

    def validated(self, arguments: Mapping[str, Any]) -> dict[str, Any]:
        """Return ``arguments`` converted as annotated. Raises ``ValidationFailed``, readable for an agent."""
        try:
            model = self._arguments.model_validate(dict(arguments))
        except ValidationError as error:
            raise ValidationFailed(self._refusal(error)) from None
        given = model.model_fields_set
        return {
            name: getattr(model, field)
            for field, (name, parameter) in zip(
                type(model).model_fields, self._signature.parameters.items(), strict=True
            )
            if field in given or isinstance(parameter.default, FieldInfo)
        }

    async def call(self, arguments: Mapping[str, Any]) -> Any:
        """Validate the arguments and call the function, here in the loop. Raises what it raises."""
        value = self.function(**self.validated(arguments))
        return await value if inspect.isawaitable(value) else value

    def _refusal(self, error: ValidationError) -> str:
        lines = [
            f"- {'.'.join(map(str, detail['loc'])) or 'arguments'}: {detail['msg']}"
            for detail in error.errors(include_url=False, include_input=False, include_context=False)
        ]
        problems = "\n".join(lines)
        return f"{self.name} was not called, its arguments do not fit:\n{problems}\nIt is {self.name}{self._signature}."


def host_tools(functions: Iterable[Callable[..., Any]]) -> dict[str, HostTool]:
    """Return tools by name. Raises ``TypeError`` for what cannot be a tool, and for two of one name."""
    if callable(functions) or isinstance(functions, (str, bytes, Mapping)):
        raise TypeError(f"tools takes a list of functions, as in tools=[f, g], not {functions!r:.200}.")
    tools: dict[str, HostTool] = {}
    for function in functions:
        tool = HostTool(function)
        if tool.name in tools:
            raise TypeError(f"Two tools are called '{tool.name}': give one of the functions another name.")
        tools[tool.name] = tool
    return tools


def _name(function: Callable[..., Any]) -> str:
    if not callable(function) or inspect.isclass(function):
        raise TypeError(f"tools takes functions, not {function!r:.200}: write a function that does what you want.")
    name = getattr(function, "__name__", None)
    if not isinstance(name, str) or name == "<lambda>":
        raise TypeError(f"A tool needs a name, which {function!r:.200} has not: write it as `def name(...):`.")
    if not _NAME.fullmatch(name):
        raise TypeError(
            f"'{name}' cannot be the name of a tool: agents take up to 48 letters (a to z), digits, _ and -. "
            f"Give the function another name."
        )
    if inspect.isgeneratorfunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(f"Tool '{name}' yields, but an agent gets one answer: return a list instead.")
    return name


def _signature(function: Callable[..., Any], name: str) -> inspect.Signature:
    """Return the arguments with their types. The return annotation is ignored."""
    try:
        signature = inspect.signature(function)
    except ValueError as error:
        raise TypeError(f"Tool '{name}' does not tell its arguments ({error}): wrap it in a `def` that does.") from None
    known = getattr(inspect.unwrap(function), "__globals__", {})
    parameters: list[inspect.Parameter] = []
    for parameter in signature.parameters.values():
        if parameter.kind in _NOT_BY_NAME:
            raise TypeError(
                f"Tool '{name}' {_NOT_BY_NAME[parameter.kind]}, but agents give arguments by name: name each of them."
            )
        parameters.append(parameter.replace(annotation=_evaluated(parameter.annotation, known, name)))
    return inspect.Signature(parameters)


def _evaluated(annotation: Any, known: dict[str, Any], name: str) -> Any:
    """Evaluate an annotation that is text (``from __future__ import annotations``)."""
    if not isinstance(annotation, str):
        return annotation
    try:
        return eval(annotation, known)
    except Exception as error:
        raise TypeError(
            f"The annotation {annotation!r} of tool '{name}' cannot be read: {error}. Define what it names at the top "
            f"level, not inside another function."
        ) from None


def _arguments(signature: inspect.Signature, name: str) -> type[BaseModel]:
    """Return a model of the arguments. Field names are generated, since some arguments' names are not allowed."""
    names = {f"argument_{index}": parameter for index, parameter in enumerate(signature.parameters)}
    fields: dict[str, Any] = {}
    for field, argument in names.items():
        parameter = signature.parameters[argument]
        annotation = Any if parameter.annotation is parameter.empty else parameter.annotation
        # Not an alias generator in the settings, which would be called for the fields of dataclasses too.
        named = Annotated[annotation, Field(alias=argument)]
        fields[field] = (named, ... if parameter.default is parameter.empty else parameter.default)
    try:
        model = create_model(name, __config__=ConfigDict(extra="forbid"), **fields)
    except PydanticUserError as error:
        raise _not_json(name, error) from None
    if _imports(model.__pydantic_core_schema__, set()):
        raise TypeError(
            f"Tool '{name}' takes an ImportString: with that an agent could have the notebook import any module, which "
            f"runs it. Let it take a name, and find the object by that."
        )
    return model


def _imports(schema: object, seen: set[int]) -> bool:
    """Whether validating with this pydantic schema would import what the value names, at any depth."""
    if callable(schema):
        # The validator of ``ImportString``, which has no public name.
        return (getattr(schema, "__module__", ""), getattr(schema, "__name__", "")) == _IMPORTER
    if id(schema) in seen:
        return False
    seen.add(id(schema))
    inner: Iterable[object] = ()
    if isinstance(schema, dict):
        inner = cast(dict[str, object], schema).values()
    elif isinstance(schema, (list, tuple)):
        inner = cast(Sequence[object], schema)
    return any(_imports(part, seen) for part in inner)


class _Schema(GenerateJsonSchema):
    """Omits what a language model does not need: titles, and warnings about defaults that are not JSON."""

    def emit_warning(self, kind: JsonSchemaWarningKind, detail: str) -> None:
        pass

    def field_title_should_be_set(self, schema: Any) -> bool:
        return False


def _schema(arguments: type[BaseModel], name: str) -> dict[str, Any]:
    try:
        schema = arguments.model_json_schema(schema_generator=_Schema)
    except PydanticUserError as error:
        raise _not_json(name, error) from None
    return {**dict[str, Any](properties={}), **{key: value for key, value in schema.items() if key != "title"}}


def _not_json(name: str, error: PydanticUserError) -> TypeError:
    reason = error.message.partition("\n")[0]
    return TypeError(
        f"Tool '{name}' has an argument that an agent cannot write as JSON ({reason}). Let it take a name, a number or "
        f"a model instead, and find the object by that."
    )
