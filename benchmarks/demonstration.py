"""The demonstration over many seeds, without a chain.

Run python benchmarks/demonstration.py [--first 0] [--seeds 10] [--honest].

Rounds are judged by the aggregator's own code and evidence follows the ledger's arithmetic; only transactions are
left out, so a seed takes seconds. Prints, per seed: test accuracy, whether every attacker's reputation is below
every honest participant's after round 10, the attackers' largest pay after round 10 over the honest median, and the
share of honest updates that were refused.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from statistics import median

from fedledger.aggregator.round.outcome import RoundInput, round_outcome
from fedledger.contracts.chain.chain import Chain
from fedledger.contracts.ledger.round_history import Participation
from fedledger.node.training import TrainingContext
from fedledger.platform.experiment.accounts import experiment_account, participant_role
from fedledger.platform.experiment.assembly import make_experiment
from fedledger.platform.experiment.config import DEMO, load_config
from fedledger.platform.experiment.experiment import HONEST, Experiment
from fedledger.protocol.encoding.cid import ContentRef
from fedledger.protocol.records import update as wire
from fedledger.protocol.records.model import ModelFile
from fedledger.protocol.records.reputation import Evidence
from fedledger.protocol.records.update import UpdateHeader
from fedledger.protocol.records.verdicts import Verdict

SETTLED = 10


def play(experiment: Experiment, chain: Chain) -> tuple[float, bool, float, float]:
    """Play one experiment and return the four figures."""
    seed, count = experiment.config.seed, experiment.config.participants
    accounts = [experiment_account(seed, participant_role(i), chain) for i in range(count)]
    trainers = [experiment.trainer(i) for i in range(count)]
    evidence = [Evidence() for _ in range(count)]
    paid = [0] * count
    measure = experiment.measurer()
    data, before, state = experiment.contents[0], None, b""
    refused = total = 0
    ordered = True
    for index in range(1, experiment.spec.rounds + 1):
        base, ref = ModelFile.decode(data), ContentRef.of(data)
        updates: dict[str, bytes] = {}
        for account, trainer in zip(accounts, trainers, strict=True):
            trained = trainer(TrainingContext(experiment.spec, index, account.address, base, before))
            header = UpdateHeader(
                spec=experiment.spec.digest.hex(),
                round=index,
                participant=account.address,
                base=ref.digest.hex(),
                examples=trained.examples,
                steps=trained.steps,
                vectors=[wire.DELTA],
                payload="0" * 64,
            )
            updates[account.address] = wire.encode(header, {wire.DELTA: trained.delta}, bytes(account.key))
        participations = [
            Participation(i, a.address, a.address, evidence[i], ContentRef.of(updates[a.address]))
            for i, a in enumerate(accounts)
        ]
        participations.sort(key=lambda participation: participation.owner.lower())
        units = experiment.config.ledger.units_per_round
        outcome = round_outcome(
            RoundInput(experiment.spec, index, base, ref, state, participations, updates, units), measure
        )
        for i, behaviour in enumerate(experiment.behaviours):
            evidence[i] = evidence[i].after(outcome.verdicts[i])
            if behaviour == HONEST:
                total += 1
                refused += outcome.verdicts[i] is not Verdict.ACCEPTED
            if index > SETTLED:
                paid[i] += outcome.shares.get(i, 0)
        data, before, state = outcome.model.data, base, outcome.state.data
        honest = [e.reputation for e, b in zip(evidence, experiment.behaviours, strict=True) if b == HONEST]
        others = [e.reputation for e, b in zip(evidence, experiment.behaviours, strict=True) if b != HONEST]
        if index == SETTLED:
            ordered = not others or max(others) < min(honest)
    by = list(zip(paid, experiment.behaviours, strict=True))
    typical = median(p for p, b in by if b == HONEST)
    largest = max((p for p, b in by if b != HONEST), default=0)
    return experiment.tested(ModelFile.decode(data)).score, ordered, largest / max(1, typical), refused / total


def main() -> None:
    """Print one line a seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--first", type=int, default=0, help="the first seed")
    parser.add_argument("--seeds", type=int, default=10, help="how many")
    parser.add_argument("--honest", action="store_true", help="nobody attacks")
    arguments = parser.parse_args()
    chain = Chain()
    for seed in range(arguments.first, arguments.first + arguments.seeds):
        config = load_config(DEMO, seed=seed, **({"attackers": []} if arguments.honest else {}))
        accuracy, ordered, pay, refused = play(make_experiment(config, Path()), chain)
        print(
            f"seed {seed}: accuracy {accuracy:.3f}  ordered {ordered}  pay {pay:.3f}  refused {refused:.3f}", flush=True
        )


if __name__ == "__main__":
    main()
