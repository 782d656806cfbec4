"""What all kinds share: the base of every model, metadata, selectors, and faults of a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, Literal, NamedTuple, Self, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, model_validator

from fos1d.kinds.fields import AtLeastOne, Listed, Maybe, Name, NamespaceName, Parsed
from fos1d.kinds.names import label_key, label_value
from fos1d.manifest import Loc
from fos1d.model.identity import ResourceId
from fos1d.quantity import shown

ApiVersion: TypeAlias = Literal["networking.fos1.io/v1alpha1"]

LONGEST_ANNOTATIONS = 256 << 10

_ACRONYMS = {"id": "ID", "ip": "IP", "qos": "QoS"}


def camel(name: str) -> str:
    """Return a field's name as manifests write it: `external_ip` is `externalIP`."""
    first, *rest = name.rstrip("_").split("_")
    return first + "".join(_ACRONYMS.get(word, word.capitalize()) for word in rest)


class Fault(NamedTuple):
    """What is wrong or odd at a place; the place is relative to the model that says so."""

    loc: Loc
    message: str


class Faults(ValueError):
    """All that is wrong within one model."""

    def __init__(self, faults: Iterable[Fault]) -> None:
        self.faults = tuple(faults)
        super().__init__("; ".join(fault.message for fault in self.faults))


class Model(BaseModel):
    """Base of every model: frozen, strict, unknown fields refused, camelCase outside."""

    model_config = ConfigDict(
        frozen=True,
        extra="forbid",
        strict=True,
        alias_generator=camel,
        hide_input_in_errors=True,
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together, each of them being right."""
        return iter(())

    @model_validator(mode="after")
    def _check_combinations(self) -> Self:
        if faults := list(self.combinations()):
            raise Faults(faults)
        return self

    def written(self) -> list[str]:
        """Return the fields that the manifest sets, as it writes them, sorted."""
        fields = type(self).model_fields
        return sorted(str(fields[name].alias) for name in self.model_fields_set)


def off_by_default(model: Model, switch: str, field: str) -> Iterator[Fault]:
    """Yield a remark where fields of `model` are set and `switch`, false by default, is not."""
    written = model.written()
    if written and switch not in written:
        yield Fault(
            (field,),
            f"has no effect: {switch} is false by default; write `{switch}: true`,"
            f" or `{switch}: false` to keep it off",
        )


def _labels(value: dict[Any, Any]) -> dict[str, str]:
    return _texts(value, label_value)


def _annotations(value: dict[Any, Any]) -> dict[str, str]:
    if len(str(value)) > LONGEST_ANNOTATIONS:
        raise ValueError(f"annotations hold more than {LONGEST_ANNOTATIONS} characters")
    return _texts(value, str)


def _texts(value: dict[Any, Any], check: Callable[[str], object]) -> dict[str, str]:
    faults = []
    for key, text in value.items():
        try:
            label_key(key)
            if not isinstance(text, str):
                raise ValueError(_must_be_text(text))
            check(text)
        except ValueError as error:
            faults.append(Fault((key,), str(error)))
    if faults:
        raise Faults(faults)
    return value


def _must_be_text(value: object) -> str:
    match value:
        case bool():
            return f"must be text; write {shown(str(value).lower())} with the quotes"
        case int():
            return f"must be text; write {shown(value)} with the quotes"
        case None:
            return 'has no value; write "" for an empty one, or remove the line'
        case _:
            return "must be text"


_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
Labels = Annotated[dict[str, str], Parsed(_labels, "a mapping", _TEXTS, dict)]
Annotations = Annotated[dict[str, str], Parsed(_annotations, "a mapping", _TEXTS, dict)]
LabelKey = Annotated[str, Parsed(label_key, "a label's key")]
LabelValue = Annotated[str, Parsed(label_value, "a label's value")]


NODE_SELECTOR = "Only routers whose labels match use this manifest; by default all do."
DESCRIPTION = "Free text for people."


class Metadata(Model):
    """Who the resource is."""

    name: Name = Field(description="Its name, unique per kind and name space.")
    namespace: NamespaceName = Field(
        "default", description="A name space only: references stay within it."
    )
    labels: Labels = Field(default_factory=dict, description="To select by with `fos1ctl get -l`.")
    annotations: Annotations = Field(default_factory=dict, description="Free text, kept as it is.")

    def id_of(self, kind: str) -> ResourceId:
        """Return the identity of the resource of `kind` that this describes."""
        return ResourceId(kind, self.namespace, self.name)


class Expression(Model):
    """One requirement on labels."""

    key: LabelKey = Field(description="The label's key.")
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"] = Field(
        description="How labels are compared. NotIn and DoesNotExist hold where there is none."
    )
    values: Maybe[AtLeastOne[LabelValue]] = Field(
        None, description="What it is compared with; only for In and NotIn."
    )

    def combinations(self) -> Iterator[Fault]:
        """Yield what is wrong with these fields together."""
        compares = self.operator in ("In", "NotIn")
        if compares and self.values is None:
            yield Fault(("values",), f"is required: operator {self.operator} compares with a list")
        if not compares and self.values is not None:
            yield Fault(("values",), f"operator {self.operator} takes no values; remove them")

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet the requirement."""
        match self.operator:
            case "In":
                return labels.get(self.key) in (self.values or ())
            case "NotIn":
                return labels.get(self.key) not in (self.values or ())
            case "Exists":
                return self.key in labels
            case "DoesNotExist":
                return self.key not in labels


class LabelSelector(Model):
    """Requirements on labels, all of which must be met; an empty selector selects everything."""

    match_labels: Labels = Field(
        default_factory=dict, description="Labels that must have exactly these values."
    )
    match_expressions: Listed[Expression] = Field((), description="Further requirements.")

    def selects(self, labels: Mapping[str, str]) -> bool:
        """Whether `labels` meet all requirements."""
        return all(labels.get(key) == value for key, value in self.match_labels.items()) and all(
            expression.selects(labels) for expression in self.match_expressions
        )
