"""What must still be sent."""

from tests.integration.storage.house import House


def test_what_is_sent_is_not_due_again(house: House) -> None:
    # Given two jobs, when their rings are sent
    house.submit()
    house.submit(device="cuda")
    rings = house.outbox.due()
    assert [ring.device for ring in rings] == ["cpu", "cuda"]
    house.outbox.mark_sent(rings)

    # Then none is due, whatever time passes
    house.pass_time(3600)
    assert house.outbox.due() == ()
    assert house.outbox.waiting() == 0


def test_two_relays_do_not_send_the_same(house: House) -> None:
    # Given five rings, when two relays ask in turn
    for _ in range(5):
        house.submit()
    first, second, third = (house.outbox.due(limit=3) for _ in range(3))

    # Then each ring goes to one of them, the oldest first
    assert [ring.id for ring in first + second] == sorted(ring.id for ring in first + second)
    assert (len(first), len(second), len(third)) == (3, 2, 0)


def test_what_a_dead_relay_took_is_due_again(house: House) -> None:
    # Given a ring that a relay took
    house.submit()
    taken = house.outbox.due()

    # When it says nothing for half a minute, then the ring is due again
    house.pass_time(29)
    assert house.outbox.due() == ()
    house.pass_time(1)
    assert house.outbox.due() == taken


def test_what_failed_is_tried_again_ever_later(house: House) -> None:
    # Given a ring that cannot be sent
    house.submit()
    (ring,) = house.outbox.due()

    # When it fails again and again, then the wait doubles each time, up to half a minute
    for tries, wait in enumerate((1, 2, 4, 8, 16, 30, 30), start=1):
        house.outbox.mark_failed((ring,))
        house.pass_time(wait - 0.5)
        assert house.outbox.due() == ()
        house.pass_time(0.5)
        (ring,) = house.outbox.due()
        assert ring.tries == tries
