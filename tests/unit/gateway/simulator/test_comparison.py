"""What counts as accepted, as wrong, and as over."""

from __future__ import annotations

from datetime import timedelta

from buffer.model import EPOCH
from gateway.simulator import building
from gateway.simulator.comparison import Comparison
from gateway.simulator.world import HOUR, SINCE

FIRST = (SINCE - EPOCH) // HOUR
METERS = building.bus(2) + building.hall(building.Pace(*[timedelta(minutes=1)] * 3), first_id=building.FIRST_ID + 2)[:1]
MAIN, CHILLER, BAKERY = METERS


class Server:
    """EnerKey's hours, by meter."""

    def __init__(self) -> None:
        self.hours: dict[int, dict[int, int]] = {meter.enerkey_id: {} for meter in METERS}

    def accept(self, meter: building.SimulatedMeter, number: int, error: float = 0.0) -> None:
        truth = meter.truth(FIRST + number)
        self.hours[meter.enerkey_id][FIRST + number] = round(truth * (1 + error))

    def hourly(self, meter: int) -> dict[int, int]:
        return self.hours[meter]


def test_each_hour_is_news_once_and_in_order_of_time():
    server, comparison = Server(), Comparison(METERS)
    server.accept(CHILLER, 0)
    server.accept(MAIN, 0)
    server.accept(MAIN, 1)
    news = [(row.meter.name, row.hour - FIRST) for row in comparison.news(server.hourly)]
    assert news == [("main", 0), ("chiller", 0), ("main", 1)]
    assert comparison.news(server.hourly) == []
    server.accept(BAKERY, 0)
    assert [row.meter.name for row in comparison.news(server.hourly)] == ["bakery"]


def test_one_percent_is_the_limit_on_either_side():
    server, comparison = Server(), Comparison(METERS)
    for number, error in enumerate((0.0, 0.0099, -0.0099, 0.0101, -0.0101, 1.0)):
        server.accept(MAIN, number, error)
    assert [row.wrong for row in comparison.news(server.hourly)] == [False, False, False, True, True, True]


def test_an_hour_that_is_booked_again_later_is_wrong_in_the_end():
    server, comparison = Server(), Comparison(METERS)
    server.accept(MAIN, 0)
    assert not comparison.news(server.hourly)[0].wrong
    server.accept(MAIN, 0, 1.0)
    assert [row.wrong for row in comparison.all(server.hourly)] == [True]


def test_it_is_over_when_every_meter_has_its_hours_and_later_ones_do_not_count():
    server, comparison = Server(), Comparison(METERS, most=2)
    for meter in METERS:
        for number in range(3):
            server.accept(meter, number)
    del server.hours[BAKERY.enerkey_id][FIRST + 1]
    comparison.news(server.hourly)
    assert comparison.missing == {"bakery": 1}  # the hole, although it has two hours
    server.accept(BAKERY, 1)
    comparison.news(server.hourly)
    assert comparison.missing == {}
    assert len(comparison.all(server.hourly)) == 6


def test_a_heat_meter_in_megawatt_hours_is_compared_in_enerkeys_unit():
    heat = building.bus(4)[3]
    assert heat.source.model.unit == "MWh"
    assert 100e6 < heat.truth(FIRST) < 300e6  # 100 to 300 kWh
