"""The model that a soak checks by, at a server in this process: `make soak` has the rest.

The model is written by the words of docs/spec.md alone. A world changes at random, and then every
question about its services is answered as the model says.
"""

import random

import pytest

from bench.soak.check import Asked, Shape, judge
from bench.soak.world import World
from mcsdns.objects.decode import decode
from mcsdns.objects.model import Kind, Object
from tests.worlds import handler_of, world_of

SHAPES = (Shape(), Shape(1232), Shape(512), Shape(tcp=True))
RA = 0x80


def objects_of(world: World) -> list[Object]:
    decoded = [decode(Kind(plain["kind"]), plain).object for plain in world.objects()]
    return [each for each in decoded if each is not None]


@pytest.mark.parametrize("seed", range(4))
def test_every_answer_is_that_of_the_model(seed: int) -> None:
    world, rng = World(seed, services=62), random.Random(seed)
    for made in world.services * 4:
        write = world.event(made, rng)
        write.service.send(write.history, write.value, 1.0)
        write.service.ack(write.history, 1.0)
    state = world_of(objects_of(world))
    for shape in SHAPES:
        handler = handler_of(state, tcp=shape.tcp)
        for question in world.final():
            asked = Asked(question, question.wire, shape, 2.0)
            reply = bytearray(handler.reply_to(b"\0\0" + asked.message()) or b"")
            reply[3] |= RA  # a soak has upstreams
            assert not judge(asked, bytes(reply), 2.0, 2.0).wrong, (question.name, question.qtype)
