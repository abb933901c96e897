import asyncio

import pytest

from expertree.search.single_flight import SingleFlight


def test_all_who_ask_while_it_lasts_get_the_result_of_one_run() -> None:
    runs = []

    async def make() -> int:
        runs.append(None)
        await asyncio.sleep(0.01)
        return len(runs)

    async def ask() -> list[int]:
        flights: SingleFlight[int] = SingleFlight()
        return list(await asyncio.gather(*(flights.do("key", make) for _ in range(5))))

    assert asyncio.run(ask()) == [1] * 5


def test_whoever_stops_waiting_does_not_stop_the_run() -> None:
    async def ask() -> int:
        flights: SingleFlight[int] = SingleFlight()

        async def make() -> int:
            await asyncio.sleep(0.02)
            return 7

        impatient = asyncio.ensure_future(flights.do("key", make))
        await asyncio.sleep(0)
        other = asyncio.ensure_future(flights.do("key", make))
        await asyncio.sleep(0)
        impatient.cancel()
        return await other

    assert asyncio.run(ask()) == 7


def test_an_error_goes_to_all_and_the_next_one_tries_again() -> None:
    async def ask() -> int:
        flights: SingleFlight[int] = SingleFlight()

        async def fail() -> int:
            raise OSError("the disk hiccupped")

        async def make() -> int:
            return 3

        with pytest.raises(OSError, match=r"hiccupped"):
            await flights.do("key", fail)
        return await flights.do("key", make)

    assert asyncio.run(ask()) == 3
