"""Short images overtake long ones, nobody starves or is blocked, and running images wait for others a step at most."""

import pytest
import torch

from deployments.engine.checking import CheckedGroups
from deployments.engine.costs import ForwardCosts, name_of
from deployments.engine.generation import Generation
from deployments.engine.grouping import Call, read_call
from deployments.engine.policy import CLASS_HEAD_START_SECONDS, MOST_LOST, Group, Policy
from tests.support.forward_costs import FixedCosts
from tests.support.image_requests import image_request
from tests.support.stand_in_modules import Autoencoder, Denoiser

AUTOENCODER = Autoencoder()
STEP, DECODE, ENCODE = Denoiser().forward, AUTOENCODER.decode, AUTOENCODER.encode


def step_call(size: int = 4, rows: int = 2) -> Call:
    return read_call(STEP, "Denoiser", (torch.ones(rows, size), torch.tensor(1.0)), {})


def decode_call() -> Call:
    return read_call(DECODE, "Autoencoder", (torch.ones(1, 4),), {})


def encode_call() -> Call:
    return read_call(ENCODE, "Autoencoder", (torch.ones(1, 4),), {})


def generation(steps: int = 10, call: Call | None = None, arrival: float = 0.0, **changes) -> Generation:
    made = Generation(image_request("a ring", num_inference_steps=steps, width=64, height=64, **changes))
    made.waiting_call = call or step_call()
    made.arrival = arrival
    return made


def policy(*, worth_joining: bool = True, max_batch: int = 8, exact_rows: int = 8, **limits) -> Policy:
    costs = FixedCosts(worth_joining=worth_joining)
    for call in (step_call(), step_call(size=6)):
        for rows in (1, 2, 4, 8, 16):
            ForwardCosts.note(costs, name_of(call), rows, 1.0 if worth_joining else float(rows))
    return Policy(costs, CheckedGroups(), max_batch, exact_rows, **limits)


def ran(chooser: Policy, call: Call, seconds: float) -> None:
    chooser.note(chooser.launch([call]), seconds)


def choose(chooser: Policy, *waiting: Generation) -> Group:
    group = chooser.choose(waiting)
    assert group is not None
    return group


class TestOrder:
    def test_nobody_is_served_where_nobody_waits(self):
        assert policy().choose([]) is None

    def test_fewest_remaining_steps_go_first(self):
        long, short = generation(50), generation(4)
        assert choose(policy(worth_joining=False), long, short).generations == [short]

    def test_steps_done_count_not_steps_asked_for(self):
        nearly_done, short = generation(50), generation(4)
        nearly_done.steps_done = 48
        assert choose(policy(worth_joining=False), short, nearly_done).generations == [nearly_done]

    def test_who_has_waited_long_is_not_overtaken_by_somewhat_shorter_ones(self):
        waiting, shorter = generation(20), generation(16, arrival=1000.0)
        assert choose(policy(worth_joining=False), shorter, waiting).generations == [waiting]

    def test_a_higher_priority_goes_before_fewer_steps(self):
        urgent, short = generation(50, priority=1), generation(1)
        assert choose(policy(worth_joining=False), short, urgent).generations == [urgent]

    def test_no_priority_starves_a_lower_one(self):
        patient, urgent = generation(50), generation(50, priority=1, arrival=CLASS_HEAD_START_SECONDS + 1)
        assert choose(policy(worth_joining=False), urgent, patient).generations == [patient]

    def test_an_endless_stream_of_short_jobs_starves_nobody(self):
        chooser, seconds_a_step = policy(worth_joining=False), 2.0
        victim = generation(20)
        now = 0.0
        while victim.steps_left:
            waiting = [victim, generation(1, arrival=now)]
            group = choose(chooser, *waiting)
            chooser.note_lost(group, waiting)
            victim.steps_done += victim in group.generations
            now += seconds_a_step
        size = chooser.standing_of(victim).size
        longest_head_start = chooser.head_starts.of(0.0)
        assert size < now <= (1 + MOST_LOST) * size + longest_head_start + seconds_a_step

    def test_a_short_job_overtakes_long_ones_however_long_these_have_run(self):
        chooser = policy(worth_joining=False)
        crowd = [generation(50) for _ in range(8)]
        for _ in range(351):
            group = choose(chooser, *(each for each in crowd if each.steps_left))
            chooser.note_lost(group, crowd)
            group.generations[0].steps_done += 1
        newcomer = generation(4, arrival=702.0)
        assert choose(chooser, crowd[-1], newcomer).generations == [newcomer]

    def test_a_long_one_lets_small_ones_go_first_for_half_of_its_own_time(self):
        chooser = policy(worth_joining=False)
        long, small = generation(50), generation(2, arrival=1000.0)
        assert choose(chooser, long, small).generations == [small]
        standing = chooser.standing_of(long)
        standing.lost = MOST_LOST * standing.size
        assert choose(chooser, long, small).generations == [long]

    def test_only_the_one_whose_turn_it_is_loses_by_a_step_of_another(self):
        chooser = policy(worth_joining=False)
        first, later, decoding = generation(50), generation(50, arrival=9), generation(1, decode_call())
        chooser.note_lost(Group([generation(4, arrival=5)]), [first, later, decoding])
        chooser.note_lost(Group([generation(4, encode_call(), arrival=5)]), [first])
        chooser.note_lost(Group([first]), [first, later])
        assert [chooser.standing_of(each).lost for each in (first, later, decoding)] == [2.0, 0.0, 0.0]

    def test_of_equals_the_first_to_come_goes_first(self):
        second, first = generation(10, arrival=1), generation(10)
        assert choose(policy(worth_joining=False), second, first).generations == [first]

    def test_an_image_that_agrees_with_nobody_does_not_block_the_others(self):
        odd = generation(10, step_call(size=6))
        others = [generation(20) for _ in range(3)]
        chooser = policy()
        assert choose(chooser, odd, *others).generations == [odd]
        odd.steps_done = 9
        odd.waiting_call = None
        assert choose(chooser, *others).generations == others


class TestWidth:
    def test_a_forward_has_as_many_rows_as_are_worth_it(self):
        waiting = [generation() for _ in range(6)]
        assert len(choose(policy(worth_joining=True), *waiting).generations) == 6
        assert len(choose(policy(worth_joining=False), *waiting).generations) == 1

    def test_a_forward_has_no_more_images_than_the_catalog_allows(self):
        assert len(choose(policy(max_batch=3), *(generation() for _ in range(6))).generations) == 3

    def test_images_without_guidance_count_half_where_others_have_it(self):
        lone = [generation(call=step_call(rows=1)) for _ in range(8)]
        assert len(choose(policy(max_batch=4), *lone).generations) == 4
        assert len(choose(policy(max_batch=4), generation(), *lone).generations) == 7

    def test_what_needs_too_much_memory_is_not_tried_again(self):
        chooser = policy()
        waiting = [generation() for _ in range(6)]
        chooser._costs.note_out_of_memory(name_of(step_call()), 12)
        assert len(choose(chooser, *waiting).generations) == 3

    def test_the_memory_for_images_of_a_size_limits_them(self):
        asked = []

        def most_images(width: int, height: int) -> int:
            asked.append((width, height))
            return 3

        chooser = policy(most_images=most_images, most_decoded=lambda width, height: 2)
        assert len(choose(chooser, *(generation() for _ in range(6))).generations) == 3
        assert len(choose(chooser, *(generation(10, decode_call()) for _ in range(6))).generations) == 2
        assert len(choose(chooser, *(generation(10, encode_call()) for _ in range(6))).generations) == 6
        assert set(asked) == {(64, 64)}

    def test_an_image_for_which_there_is_too_little_memory_is_tried_all_the_same(self):
        chooser = policy(most_images=lambda width, height: 0)
        assert len(choose(chooser, generation(), generation()).generations) == 1

    @pytest.mark.parametrize("call", [step_call, decode_call, encode_call])
    def test_the_first_forwards_of_a_shape_are_narrow(self, call):
        chooser = Policy(ForwardCosts(), CheckedGroups(), 8, 8)
        widths = []
        for _ in range(5):
            group = choose(chooser, *(generation(10, call()) for _ in range(8)))
            widths.append(len(group.generations))
            chooser.note(chooser.launch(group.calls), 1.0)
        assert widths == [1, 2, 4, 8, 8]


class TestAsides:
    """What is not a denoising step."""

    def test_encoding_goes_before_a_step_so_that_a_newcomer_joins_it(self):
        running, newcomer = generation(10), generation(10, encode_call())
        assert choose(policy(), running, newcomer).generations == [newcomer]

    def test_a_running_image_is_held_up_by_no_more_than_the_time_of_a_step(self):
        chooser = policy(max_batch=1)
        running, done = generation(10), [generation(10, decode_call()) for _ in range(3)]
        ran(chooser, step_call(), 1.0)
        assert choose(chooser, running, *done).generations == done[:1]
        ran(chooser, decode_call(), 0.9)
        assert choose(chooser, running, *done).generations == [running]
        ran(chooser, step_call(), 1.0)
        assert choose(chooser, running, *done).generations == done[:1]

    def test_several_short_ones_fit_into_the_time_of_a_step(self):
        chooser = policy(max_batch=1)
        running, newcomers = generation(10), [generation(10, encode_call()) for _ in range(2)]
        ran(chooser, step_call(), 10.0)
        ran(chooser, encode_call(), 1.0)
        assert choose(chooser, running, *newcomers).generations == newcomers[:1]

    def test_without_a_step_to_take_nothing_holds_them_back(self):
        chooser = policy(max_batch=1)
        ran(chooser, step_call(), 1.0)
        ran(chooser, decode_call(), 5.0)
        done = generation(10, decode_call())
        assert choose(chooser, done).generations == [done]


class TestDeterministic:
    def test_a_deterministic_image_has_company_in_a_fixed_number_of_rows(self):
        waiting = [generation(deterministic=index == 2) for index in range(5)]
        group = choose(policy(), *waiting)
        assert group.generations == waiting
        assert group.padded_rows == 12

    def test_widths_that_give_other_bits_are_done_without(self):
        chooser = policy()
        for rows in (4, 12, 16):
            chooser.exact_widths.note(name_of(step_call()), rows, may_be=False)
        waiting = [generation(deterministic=True) for _ in range(5)]
        assert choose(chooser, *waiting) == Group(waiting[:4], padded_rows=8)
        assert choose(chooser, waiting[0]) == Group(waiting[:1], padded_rows=8)

    def test_where_rows_gain_nothing_it_is_padded_as_little_as_may_be(self):
        waiting = [generation(deterministic=True) for _ in range(5)]
        assert choose(policy(worth_joining=False), *waiting) == Group(waiting[:2], padded_rows=4)

    def test_it_goes_alone_where_the_device_is_not_exact(self):
        chooser = policy()
        chooser.exact_widths.refuse(name_of(step_call()))
        exact, others = generation(1, deterministic=True), [generation(10), generation(10)]
        assert choose(chooser, exact, *others) == Group([exact])
        exact.waiting_call = None
        assert choose(chooser, *others).generations == others

    def test_with_one_row_it_goes_alone_and_is_not_padded(self):
        waiting = [generation(deterministic=True) for _ in range(5)]
        assert choose(policy(exact_rows=1), *waiting) == Group(waiting[:1])

    @pytest.mark.parametrize("limits", [{"max_batch": 4}, {"most_images": lambda width, height: 4}])
    def test_its_forward_has_no_more_rows_than_images_may_share_one(self, limits):
        waiting = [generation(deterministic=True, call=step_call(rows=1)) for _ in range(5)]
        group = choose(policy(**limits), *waiting)
        assert (group.padded_rows or 1) <= 4

    def test_its_encoding_and_decoding_go_alone(self):
        exact, other = (generation(10, decode_call(), deterministic=flag) for flag in (True, False))
        assert choose(policy(), exact, other) == Group([exact])
        assert choose(policy(), other, exact) == Group([other])
