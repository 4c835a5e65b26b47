"""Plain twins: a margin loss at margin 0 with its own scale, so that scale and margin can be told apart."""

from collections.abc import Mapping, Sequence

from lossbench.losses.loading import trial_head
from lossbench.losses.plugin import BASELINE, Plugin
from lossbench.losses.spec import Spec, Term, parse_spec


def plain_twin(spec: Spec) -> Spec | None:
    """Return the spec without its margin; None where its head has none or does not say what that is (`plain_at`).

    ``arcface:margin=0.3:scale=32`` has the twin ``arcface:margin=0:scale=32``; a mix has none.

    Raises:
        InputError: the head cannot be built.
    """
    claim = trial_head(spec).plain_at
    if not claim or len(spec.terms) > 1:
        return None
    (term,) = spec.terms
    plain = parse_spec(f"{term.plugin.name}:{claim}", {term.plugin.name: term.plugin}).terms[0].values
    named = {setting.partition("=")[0] for setting in claim.split(":")}  # also those whose plain value is the default
    values = {name: value for name, value in term.values.items() if name not in named} | dict(plain)
    twin = Spec((Term(term.plugin, {p.name: values[p.name] for p in term.plugin.parameters if p.name in values}),))
    return None if str(twin) == str(spec) else twin


def with_twins(specs: Sequence[Spec], known: Mapping[str, Plugin]) -> list[Spec]:
    """Return the specs with `BASELINE` in front and each followed by its plain twin, none of them twice."""
    wanted = [parse_spec(BASELINE, known)]
    for spec in specs:
        wanted += [s for s in (spec, plain_twin(spec)) if s is not None]
    return list({str(spec): spec for spec in wanted}.values())
