"""Every rule of the court is tested: a ledger that has one of them wrong differs from the model in a short history.

All mutants are compiled together; a word of the storage says which of them the ledger is.
"""

from __future__ import annotations

from functools import cache

import pytest

from fedledger.contracts.compile import Artifact
from fedledger.protocol.errors import ChainError
from support import bidding_scripts, check_scripts  # noqa: F401 -- their scripts are among all
from support.court_scripts import SCRIPTS, Court, play
from support.mutants import SLOT, compiled, names

# Contract, what it says, and what a mutant says; where a mutant is named, that is whether the ledger is this one.
CHANGES = [
    # Who is found to be right.
    (
        "LedgerJuries",
        "2 * agreeing > cast",
        "2 * agreeing > cast || (<half of the votes decides> && 2 * agreeing == cast)",
    ),
    (
        "LedgerJuries",
        "cast < LEAST_VOTES || 2 * cast <= members.length",
        "cast < (<one vote decides> ? 1 : LEAST_VOTES) || (!<no quorum> && 2 * cast <= members.length"
        " && !(<half of a jury is a quorum> && 2 * cast == members.length))",
    ),
    (
        "LedgerJuries",
        "other.finding == vote.finding && other.transcript == vote.transcript",
        "other.finding == vote.finding && (<votes have no transcripts> || other.transcript == vote.transcript)",
    ),
    (
        "LedgerJuries",
        "|| vote.transcript == expected",
        "|| <who is right has any transcript> || vote.transcript == expected",
    ),
    ("LedgerJuries", "step < last", "step < last && !<all levels have one transcript>"),
    ("LedgerJuries", "d.unable < MOST_UNABLE", "(<a third jury is asked that is unable> || d.unable < MOST_UNABLE)"),
    (
        "LedgerJuries",
        "if (finding == Finding.None ||",
        "if (<illegal votes count> ? false : finding == Finding.None ||",
    ),
    # Who judges.
    ("LedgerJuries", "serving < _leastPool", "serving < _leastPool && !<too few are called>"),
    ("LedgerJuries", "_challenged[task_][round_] != 0", "_challenged[task_][round_] != 0 && !<challenged twice>"),
    (
        "LedgerJuries",
        "_belongs(id, d.challenger) || _belongs(id, _seats[d.task][d.accused].holder)",
        "(!<the challenger judges> && _belongs(id, d.challenger))"
        " || (!<the proposer judges> && _belongs(id, _seats[d.task][d.accused].holder))",
    ),
    (
        "LedgerJuries",
        "members[i] == id && _votes[dispute][level][id].finding == Finding.None",
        "members[i] == id && _votes[dispute][level][id].finding == Finding.None && !<who was silent judges again>",
    ),
    (
        "LedgerJuries",
        "((uint256(_jurySize) + 1) << d.level) - 1",
        "<all juries are as small> ? _jurySize : ((uint256(_jurySize) + 1) << d.level) - 1",
    ),
    (
        "LedgerJuries",
        "&& jury.pool > jury.members.length",
        "&& (<the same are asked again> || jury.pool > jury.members.length)",
    ),
    ("LedgerJuries", "block.number <= jury.drawBlock", "(!<drawn at once> && block.number <= jury.drawBlock)"),
    (
        "LedgerJuries",
        "if (jury.commitsUntil == 0) --_undrawn",
        "if (jury.commitsUntil == 0 && !<given up, it blocks>) --_undrawn",
    ),
    (
        "LedgerJuries",
        "called.commitsUntil == 0 && !called.decided",
        "called.commitsUntil == 0 && !called.decided && !<moot, it blocks>",
    ),
    ("LedgerState", "place.sinceBlock >= block_", "(!<who came in this block judges> && place.sinceBlock >= block_)"),
    (
        "LedgerState",
        "|| place.sinceBlock < v.sinceBlock)",
        "|| (!<old places count> && place.sinceBlock < v.sinceBlock))",
    ),
    ("LedgerDisputes", ">= _verifierOf[id].sinceBlock", ">= (<old places stay> ? 0 : _verifierOf[id].sinceBlock)"),
    ("LedgerState", "&& place.leftBlock < block_", "&& (<who quits is not drawn> || place.leftBlock < block_)"),
    ("LedgerState", "&& v.leftBlock < block_", "&& v.leftBlock < block_ && !<who has left judges>"),
    ("LedgerState", ">= _minVerifierStake", ">= (<the poor judge> ? 0 : _minVerifierStake)"),
    (
        "LedgerCourt",
        "if (block.timestamp < from) revert TooEarlyToEnlist",
        "if (block.timestamp < from && !<back at once>) revert TooEarlyToEnlist",
    ),
    (
        "LedgerCourt",
        "if (block.timestamp < from) revert TooEarlyToServe",
        "if (block.timestamp < from && !<the young serve>) revert TooEarlyToServe",
    ),
    (
        "LedgerCourt",
        "if (_undrawn[task_] == 0) return",
        "if (_undrawn[task_] == 0 || <places move by quitting>) return",
    ),
    (
        "LedgerCourt",
        "if (_undrawn[task_] != 0) revert",
        "if (_undrawn[task_] != 0 && !<places move by striking>) revert",
    ),
    (
        "LedgerCourt",
        "|| _isPlaced(task_, ids[i])) continue;",
        "|| (_isPlaced(task_, ids[i]) && !<anybody is struck>)) {\n"
        "if (<one that serves keeps all in>) revert NobodyStruck(task_);\ncontinue;\n}",
    ),
    (
        "LedgerCourt",
        "if (_pools[task_].length == size) revert",
        "if (_pools[task_].length == size && !<nobody is struck>) revert",
    ),
    (
        "LedgerJuries",
        "_countServing(task_, _openedAt(t, r), block.number)",
        "_countServing(task_, <who came after the opening counts> ? block.timestamp : _openedAt(t, r), block.number)",
    ),
    (
        "LedgerJuries",
        "if (!_servedAt(d.task, id, opened,",
        "if (!_servedAt(d.task, id, <who came after the opening judges> ? block.timestamp : opened,",
    ),
    # What it costs, and whom it pays.
    ("LedgerJuries", "offence = Offence.Silence;", "if (<silence costs nothing>) return; offence = Offence.Silence;"),
    (
        "LedgerJuries",
        "_burn(_slash(juror,",
        "if (<a minority costs nothing> && offence == Offence.Minority) return; _burn(_slash(juror,",
    ),
    (
        "LedgerJuries",
        "else if (found != Finding.Valid && found != Finding.Invalid) {",
        "else if (!<who spoke pays in an open end> && found != Finding.Valid && found != Finding.Invalid) {",
    ),
    (
        "LedgerJuries",
        ".finding == Finding.Unable) return;",
        ".finding == Finding.Unable && !<unable with all, it pays>) return;",
    ),
    (
        "LedgerJuries",
        "_credit(_stakes(), winner, pot / 2);",
        "_credit(_stakes(), winner, <the winner has all> ? pot : pot / 2);",
    ),
    (
        "LedgerJuries",
        "--_participants[members[i]].locks;",
        "if (!<jurors stay locked>) --_participants[members[i]].locks;",
    ),
    ("LedgerJuries", "if (reward < pot / 4)", "if (reward < pot / 4 && !<no quarter>)"),
    ("LedgerJuries", "if (reward > pot / 2)", "if (reward > pot / 2 && !<rewards are not capped>)"),
    ("LedgerJuries", "right * _jurorPenalty", "right * (<a seat is worth nothing> ? 0 : _jurorPenalty)"),
    ("LedgerJuries", "<< (d.level + 1)", "<< (<appeals cost no more> ? 0 : d.level + 1)"),
    (
        "LedgerJuries",
        "jury.finding == found) lost",
        "(jury.finding == found) != <the wrong appellant loses>) lost",
    ),
    ("LedgerJuries", "uint256 fee = unable ?", "uint256 fee = unable && !<unable juries cost nothing> ?"),
    (
        "LedgerJuries",
        "if (block.timestamp >= d.deadline) revert",
        "if (block.timestamp >= d.deadline && !<late appeals>) revert",
    ),
    (
        "LedgerJuries",
        "} else if (block.timestamp < d.deadline) {",
        "} else if (block.timestamp < d.deadline && !<closed before an appeal>) {",
    ),
    ("LedgerDisputes", "if (h.first == 0) h.first", "if (h.first == 0 || <the last has the first claim>) h.first"),
    ("LedgerDisputes", "|| seat.deposit == 0) return;", "|| seat.deposit == 0 || <deposits are not held>) return;"),
    ("LedgerDisputes", "if (amount == 0) return;", "if (amount == 0 || <deposits are not returned>) return;"),
    ("LedgerDisputes", "if (taken == 0) taken =", "if (taken == 0 && !<free deposits are spared>) taken ="),
    (
        "LedgerDisputes",
        "if (h.condemned && h.first == 0) {",
        "if (h.condemned && !<the condemned get off> && (h.first == 0 || <burned before the last claim>)) {",
    ),
    (
        "LedgerDisputes",
        "h.first = _oldest(task_, place, 0);",
        "h.first = <claims end with the first> ? 0 : _oldest(task_, place, 0);",
    ),
    (
        "LedgerDisputes",
        "challenged < first)",
        "(<claims go to the youngest> ? challenged > first : challenged < first && !<the earliest round comes first>))",
    ),
    ("LedgerDisputes", "first < round_ &&", "first < round_ && !<claims are ignored> &&"),
    (
        "LedgerDisputes",
        "_rounds[task_][first].status != RoundStatus.Voided)",
        "(_rounds[task_][first].status != RoundStatus.Voided || <fallen rounds have claims>))",
    ),
    (
        "LedgerDisputes",
        "_rounds[task_][round_].status != RoundStatus.Proposed) return false;",
        "(_rounds[task_][round_].status != RoundStatus.Proposed && !<fallen rounds are contested>)) return false;",
    ),
    (
        "LedgerDisputes",
        "&& d.accused == place;",
        "&& (d.accused == place || <disputes about others count>);",
    ),
    (
        "LedgerDisputes",
        "_challenged[task_][number] <= dispute)",
        "(_challenged[task_][number] <= dispute || <younger claims count>) && !<older claims are ignored>)",
    ),
    ("LedgerDisputes", "number < round_; ++number", "number < round_ + (<later claims count> ? 9 : 0); ++number"),
    (
        "LedgerDisputes",
        "(taken, h.amount, h.condemned) = (h.amount, 0, false);",
        "(taken, h.amount, h.condemned) = (h.amount, 0, h.condemned && <condemned for good>);",
    ),
    ("LedgerDisputes", "if (taken == 0 && claimed", "if (taken == 0 && !<nothing is condemned> && claimed"),
    ("LedgerDisputes", "taken / PROVER_SHARE", "taken / (<provers have half> ? 2 : PROVER_SHARE)"),
    ("LedgerDisputes", "if (challenged == 0) _burn", "if (challenged == 0 || <gains are not shared>) _burn"),
    (
        "LedgerDisputes",
        "_contested(task_, round_, place) ? _challenged[task_][round_] :",
        "_contested(task_, round_, place) && !<the oldest has every gain> ? _challenged[task_][round_] :",
    ),
    (
        "LedgerDisputes",
        ": _oldest(task_, place, round_);",
        ": <only its own challenge gains> ? 0 : _oldest(task_, place, <earlier ones gain> ? 0 : round_);",
    ),
    ("LedgerCourt", "msg.sender, _disputes.length);", "msg.sender, <refuters come first> ? 0 : _disputes.length);"),
    (
        "LedgerJuries",
        "d.accused, d.challenger, dispute);",
        "d.accused, d.challenger, <demands come last> ? _disputes.length : dispute);",
    ),
    (
        "LedgerJuries",
        "dispute, d.unable != 0)",
        "dispute, <only the last jury is unable> ? last.finding == Finding.Unable : d.unable != 0)",
    ),
    ("LedgerCourt", "holder, d.bond / 2);", "holder, <who answers has all> ? d.bond : d.bond / 2);"),
    # Signing twice.
    (
        "LedgerCourt",
        "id)) revert NotSelected(id);\n        _requireMade",
        "id) && !<not selected, it equivocates>) revert NotSelected(id);\n        _requireMade",
    ),
    (
        "LedgerCourt",
        "since > closed || (until != 0 && until <= opened)",
        "(since > closed && !<keys of later count>) || (until != 0 && until <= opened && !<keys of before count>)",
    ),
    (
        "LedgerAccounts",
        "uint256 since = known == 0 ?",
        "uint256 since = known == 0 || <keys that come back are new> ?",
    ),
    ("LedgerCourt", "penalty + penalty / PROVER_SHARE", "penalty + (<no reward> ? 0 : penalty / PROVER_SHARE)"),
    ("LedgerCourt", "if (_punished[offence])", "if (_punished[offence] && !<punished twice>)"),
    # Rounds.
    ("FedLedger", "amount == 0 || _spares(s)", "amount == 0 || (!<nobody is spared> && _spares(s))"),
    (
        "FedLedger",
        "_countServing(s.task, opened,",
        "_countServing(s.task, <late judges> ? block.timestamp : opened,",
    ),
    ("FedLedger", "if (_excused(s, id)) return;", "if (_excused(s, id) && !<no excuse>) return;"),
    ("FedLedger", "_waitsForBlocks(t, task_, round_, 2)", "!<late by blocks> && _waitsForBlocks(t, task_, round_, 2)"),
    ("FedLedger", "if (round_ != number + 1)", "if (round_ != number + 1 && !<any number>)"),
    (
        "LedgerState",
        "if (_leastWindowBlocks == 0 || (",
        "if (_leastWindowBlocks == 0 || <blocks are not counted> || (",
    ),
    # Committed data and checks.
    ("LedgerChecks", "if (uint32(word) == 0)", "if (uint32(word) == 0 && !<no examples are data>)"),
    ("LedgerChecks", "& 1 == 0) revert NotInTask", "& 1 == 0 && !<strangers have data>) revert NotInTask"),
    ("LedgerChecks", ".currentRound + 1;", ".currentRound + (<signed for this round> ? 0 : 1);"),
    ("LedgerChecks", "_idOfSigner(signer) != ids[i]", "_idOfSigner(signer) != ids[i] && !<signed by another>"),
    ("LedgerChecks", "if (known >> 64 == round_)", "if (known >> 64 == round_ || <drawn by another round>)"),
    ("LedgerChecks", "if (seed == bytes32(0))", "if (seed == bytes32(0) && !<drawn by no hash>)"),
    ("LedgerChecks", "Evidence.PPM >= rate)", "Evidence.PPM >= rate && !<all are drawn>)"),
    ("LedgerChecks", "!= Verdicts.ACCEPTED)", "!= Verdicts.ACCEPTED && !<the refused are drawn>)"),
    ("LedgerChecks", "(value >> 128) % count", "(value >> (<drawn by other bits> ? 0 : 128)) % count"),
    ("LedgerChecks", "_requireStage(t, task_, round_, 1)", "_requireStage(t, task_, round_, <summoned late> ? 2 : 1)"),
    ("LedgerChecks", "task_, round_, 2);\n        _move", "task_, round_, <answered late> ? 3 : 2);\n        _move"),
    (
        "LedgerChecks",
        "|| auditors[place] != msg.sender)",
        "|| (auditors[place] != msg.sender && !<anybody is an auditor>))",
    ),
    ("LedgerChecks", "if (computed != expected)", "if (computed != expected && !<found without a word before>)"),
    (
        "LedgerChecks",
        "found.transcripts.length != found.passed.length)",
        "found.transcripts.length != found.passed.length && !<transcripts are left out>)",
    ),
    (
        "LedgerChecks",
        "_findings[task_][place] = next;",
        "if (next != bytes32(0) || !<revealed again>) _findings[task_][place] = next;",
    ),
    ("LedgerChecks", ".owner != msg.sender)", ".owner != msg.sender && !<signers appeal>)"),
    ("LedgerChecks", "_requireStage(t, task_, round_, 4)", "_requireStage(t, task_, round_, <appealed late> ? 5 : 4)"),
    (
        "LedgerChecks",
        "_debit(_stakes(), msg.sender, bond);",
        "if (!<appeals are free>) _debit(_stakes(), msg.sender, bond);",
    ),
    ("LedgerChecks", "(place + 1) %", "(place + (<the same auditor again> ? 0 : 1)) %"),
    (
        "LedgerChecks",
        "status != RoundStatus.Settled && status != RoundStatus.Voided)",
        "status != RoundStatus.Settled && status != RoundStatus.Voided && !<ended before it is settled>)",
    ),
    (
        "LedgerChecks",
        "failed && status == RoundStatus.Settled;",
        "failed && (status == RoundStatus.Settled || <fallen rounds fail>);",
    ),
    (
        "LedgerChecks",
        "if (state >= CheckState.Appealed)",
        "if (state >= CheckState.Appealed && !<bonds are kept>)",
    ),
    ("LedgerChecks", "stands ? auditors[place]", "stands && !<lost bonds come back> ? auditors[place]"),
    ("LedgerChecks", "if (stands) _fail", "if (stands && !<failures cost nothing>) _fail"),
    ("LedgerChecks", "if (assigned != place)", "if (assigned != place && !<any auditor finds>)"),
    (
        "LedgerChecks",
        "appealed ? 5 : 3",
        "appealed ? (<second findings come late> ? 6 : 5) : (<findings come late> ? 4 : 3)",
    ),
    (
        "LedgerChecks",
        "return state == CheckState.Confirmed;",
        "return state == CheckState.Confirmed || <the cleared fail>;",
    ),
    (
        "LedgerChecks",
        "_requireOver(t, task_, round_, 2)",
        "_requireOver(t, task_, round_, <silence ends early> ? 1 : 2)",
    ),
    (
        "LedgerChecks",
        "_requireOver(t, task_, round_, 4)",
        "_requireOver(t, task_, round_, <failures end early> ? 3 : 4)",
    ),
    (
        "LedgerChecks",
        "_requireOver(t, task_, round_, 5)",
        "_requireOver(t, task_, round_, <appeals end early> ? 4 : 5)",
    ),
    (
        "LedgerChecks",
        "return state != CheckState.Appealed;",
        "return state != CheckState.Appealed || <no word is a no>;",
    ),
    ("LedgerChecks", "auditor, bond / 2);", "auditor, <the second auditor has all> ? bond : bond / 2);"),
    (
        "LedgerChecks",
        "&& r.status != RoundStatus.Settled)",
        "&& r.status != RoundStatus.Settled && !(<fallen rounds are checked> && r.status == RoundStatus.Voided))",
    ),
    ("LedgerChecks", "Evidence.afterFailedCheck(lane)", "(<evidence stays> ? lane : Evidence.afterFailedCheck(lane))"),
    (
        "LedgerState",
        "&& t.params.checkPenalty == 0)",
        "&& (t.params.checkPenalty == 0 || <checks do not wait>))",
    ),
    # Bidding rounds and pooled pay.
    ("FedLedger", "} else if (r.flags & BIDDING == 0) {", "} else if (r.flags & BIDDING == 0 || <bids are rounds>) {"),
    ("FedLedger", "number - last >= every", "number - last >= every + (<bids are late> ? 1 : 0)"),
    (
        "FedLedger",
        "if (selected != t.enrolled) revert",
        "if (selected != t.enrolled && !<some are asked for bids>) revert",
    ),
    (
        "FedLedger",
        "r.status == RoundStatus.Voided || r.flags & EMPTY != 0 ||",
        "(r.status == RoundStatus.Voided && !<fallen bids stand>) || (r.flags & EMPTY != 0 && !<few bids stand>) ||",
    ),
    (
        "FedLedger",
        "limit * (uint256(t.settledRounds) + 1) - t.spentUnits",
        "limit * (uint256(t.settledRounds) + (<later rounds pay> ? 2 : 1))"
        " - (<what was paid is left> ? 0 : t.spentUnits)",
    ),
    ("FedLedger", "if (t.params.poolsPay)", "if (t.params.poolsPay && !<nothing is pooled>)"),
    ("FedLedger", "if (below || seen.bidding) {", "if (below || (seen.bidding && !<bids make models>)) {"),
    (
        "FedLedger",
        "seen.bidding ? Verdicts.ACCEPTED : Verdicts.HEARD)",
        "seen.bidding ? (<bids are accepted> ? 255 : Verdicts.ACCEPTED)"
        " : (<updates are heard> ? 255 : Verdicts.HEARD))",
    ),
    (
        "FedLedger",
        "if (seen.bidding) seen.present = 0;",
        "if (seen.bidding && !<all bids are accepted>) seen.present = 0;",
    ),
    (
        "FedLedger",
        "& ~Lanes.gather(Lanes.equal(word, Verdicts.HEARD));",
        "& ~(<bids are news> ? 0 : Lanes.gather(Lanes.equal(word, Verdicts.HEARD)));",
    ),
]
NAMES = names(CHANGES)
KILLERS = {
    "half of the votes decides": "half_of_the_votes",
    "one vote decides": "one_alone",
    "no quorum": "two_of_five",
    "half of a jury is a quorum": "two_of_four",
    "votes have no transcripts": "by_other_ways",
    "who is right has any transcript": "by_another_way",
    "all levels have one transcript": "rightful_appeal",
    "a third jury is asked that is unable": "two_unable_juries",
    "illegal votes count": "illegal_votes",
    "too few are called": "too_few",
    "challenged twice": "agreed",
    "the challenger judges": "parties",
    "the proposer judges": "parties",
    "who was silent judges again": "one_alone",
    "all juries are as small": "not_able",
    "the same are asked again": "left_after",
    "drawn at once": "agreed",
    "given up, it blocks": "nothing_at_all",
    "moot, it blocks": "gain_of_nobody",
    "who came in this block judges": "too_few",
    "old places count": "left_before",
    "old places stay": "left_before",
    "who quits is not drawn": "left_after",
    "who has left judges": "left_before",
    "the poor judge": "too_poor",
    "back at once": "left_before",
    "the young serve": "too_young",
    "places move by quitting": "left_after",
    "places move by striking": "left_after",
    "anybody is struck": "too_poor",
    "one that serves keeps all in": "too_poor",
    "nobody is struck": "too_poor",
    "who came after the opening counts": "one_more_after_the_opening",
    "who came after the opening judges": "came_after_the_opening",
    "silence costs nothing": "half_of_the_votes",
    "a minority costs nothing": "three_of_five",
    "who spoke pays in an open end": "half_of_the_votes",
    "unable with all, it pays": "not_able",
    "the winner has all": "agreed",
    "jurors stay locked": "agreed",
    "no quarter": "agreed",
    "rewards are not capped": "dear_gain",
    "a seat is worth nothing": "dear_gain",
    "appeals cost no more": "vain_appeals",
    "the wrong appellant loses": "vain_appeals",
    "unable juries cost nothing": "two_unable_juries",
    "late appeals": "late_appeal",
    "closed before an appeal": "late_appeal",
    "the last has the first claim": "drawn_and_gone",
    "deposits are not held": "agreed",
    "deposits are not returned": "agreed",
    "free deposits are spared": "taken_again",
    "the condemned get off": "condemned_and_burned",
    "burned before the last claim": "condemned",
    "claims end with the first": "condemned_and_won",
    "claims go to the youngest": "gain_of_the_oldest",
    "the earliest round comes first": "gain_of_the_oldest",
    "fallen rounds have claims": "fallen_claim",
    "fallen rounds are contested": "gain_of_its_own",
    "disputes about others count": "another_seat",
    "younger claims count": "younger_claim",
    "older claims are ignored": "older_claim",
    "later claims count": "passed_to_the_oldest",
    "condemned for good": "condemned_and_taken",
    "nothing is condemned": "condemned",
    "the oldest has every gain": "gain_of_its_own",
    "only its own challenge gains": "gain_of_the_oldest",
    "earlier ones gain": "second_deposit",
    "refuters come first": "younger_claim_before_a_refutation",
    "demands come last": "gain_by_a_demand",
    "only the last jury is unable": "unable_and_then_undecided",
    "claims are ignored": "claimed_by_a_demand",
    "provers have half": "gain_of_nobody",
    "gains are not shared": "shared_gain",
    "who answers has all": "answered_demand",
    "not selected, it equivocates": "not_selected",
    "keys of later count": "signed_by_other_keys",
    "keys of before count": "signed_by_other_keys",
    "keys that come back are new": "signed_and_rotated",
    "no reward": "signed_twice",
    "punished twice": "signed_twice",
    "nobody is spared": "nobody_to_judge",
    "late judges": "come_before_the_proposal",
    "no excuse": "late_by_word_alone",
    "late by blocks": "waited_for_blocks",
    "any number": "not_selected",
    "blocks are not counted": "counted_in_blocks",
    "no examples are data": "data",
    "strangers have data": "data",
    "signed for this round": "data",
    "signed by another": "data",
    "drawn by another round": "draws_by_another_round",
    "drawn by no hash": "draws_of_an_old_block",
    "all are drawn": "draws",
    "the refused are drawn": "draws_of_the_accepted",
    "drawn by other bits": "draws",
    "summoned late": "late_steps",
    "answered late": "late_steps",
    "anybody is an auditor": "appeals_of_checks",
    "found without a word before": "appeals_of_checks",
    "transcripts are left out": "appeals_of_checks",
    "revealed again": "appeals_of_checks",
    "signers appeal": "appeals_of_checks",
    "appealed late": "late_steps",
    "appeals are free": "appeals_of_checks",
    "the same auditor again": "appeals_of_checks",
    "ended before it is settled": "appeals_of_checks",
    "fallen rounds fail": "fallen_checks",
    "bonds are kept": "appeals_of_checks",
    "lost bonds come back": "appeals_of_checks",
    "failures cost nothing": "late_steps",
    "any auditor finds": "appeals_of_checks",
    "second findings come late": "late_steps",
    "findings come late": "late_steps",
    "the cleared fail": "appeals_of_checks",
    "silence ends early": "late_steps",
    "failures end early": "late_steps",
    "appeals end early": "late_steps",
    "no word is a no": "late_steps",
    "the second auditor has all": "appeals_of_checks",
    "fallen rounds are checked": "answers_in_a_fallen_round",
    "evidence stays": "late_steps",
    "checks do not wait": "checks_wait_for_blocks",
    "bids are rounds": "bids_every_third_round",
    "bids are late": "bids_every_third_round",
    "some are asked for bids": "bids_of_everybody",
    "fallen bids stand": "bids_that_fall",
    "few bids stand": "bids_of_too_few",
    "later rounds pay": "pay_that_is_left",
    "what was paid is left": "pay_that_is_left",
    "nothing is pooled": "pay_that_is_left",
    "bids make models": "bids_are_heard_alone",
    "bids are accepted": "bids_are_heard_alone",
    "updates are heard": "bids_are_heard_alone",
    "all bids are accepted": "bids_are_heard_alone",
    "bids are news": "bids_that_grow_old",
}
"""The script in which each mutant differs from the model."""


@cache
def mutants() -> tuple[Artifact, ...]:
    return compiled(CHANGES)


def number(name: str) -> int:
    return NAMES.index(name) + 1


def court(name: str | None) -> Court:
    """Return a machine whose ledger is a mutant, or none."""
    machine = Court()
    machine.contracts, machine.storage = mutants(), {SLOT: number(name)} if name else {}
    return machine


@pytest.mark.parametrize("name", SCRIPTS)
def test_scripts_agree_with_the_model(name: str) -> None:
    play(name, Court())


@pytest.mark.long
@pytest.mark.parametrize("name", SCRIPTS)
def test_without_a_mutant_nothing_has_changed(name: str) -> None:
    play(name, court(None))


@pytest.mark.long
@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_rule_is_found(name: str) -> None:
    with pytest.raises((AssertionError, ChainError)):
        play(KILLERS[name], court(name))
