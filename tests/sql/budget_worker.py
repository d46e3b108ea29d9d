"""A process that asks and answers turns until it is killed: `budget_worker.py URL OPERATOR_URL TENANT SEED POINT`.

With a point it stops there, says so, and waits to be killed; with "random" it goes on.
"""

import random
import sys
import time
from uuid import UUID, uuid4

import psycopg
from psycopg import Connection
from psycopg.rows import TupleRow

POINTS = ("reserving", "reserved", "claimed", "settling", "settled")


class Worker:
    """What one process does."""

    def __init__(
        self, connection: Connection[TupleRow], operator: Connection[TupleRow], tenant: UUID, seed: int, point: str
    ) -> None:
        self.connection, self.operator, self.tenant, self.point = connection, operator, tenant, point
        self.random = random.Random(seed)  # noqa: S311 - it only varies what a test does
        self.subject = f"worker-{seed}"

    def reach(self, point: str) -> None:
        """Wait to be killed where that is the point."""
        if point == self.point:
            print("here", flush=True)  # noqa: T201 - whoever kills it reads this
            time.sleep(60)

    def ask(self) -> str | None:
        """Begin a turn, unless the budget is full."""
        try:
            with self.connection.transaction():
                self.connection.execute(
                    "SELECT core.enter(%s, %s, 'chat.ask', '{member}'::text[])", (self.tenant, self.subject)
                )
                accepted = self.connection.execute(
                    "SELECT chat.begin_turn(p_message => 'How much?', p_max_tokens => 100)"
                ).fetchone()
                self.reach("reserving")
        except psycopg.Error as error:
            if error.sqlstate != "EA004":
                raise
            return None
        assert accepted is not None
        turn: str = accepted[0]["turn_id"]
        self.reach("reserved")
        return turn

    def answer(self, turn: str) -> None:
        """Generate its answer and settle."""
        # The event names the job; the functions' role does not see it.
        job = self.operator.execute("SELECT id FROM inference.jobs WHERE turn_id = %s", (turn,)).fetchone()
        assert job is not None
        with self.connection.transaction():
            self.connection.execute("SELECT core.enter_function(%s, 'inference')", (self.tenant,))
            self.connection.execute("SELECT inference.claim(%s, 'w', '1 minute')", (job[0],))
        self.reach("claimed")
        with self.connection.transaction():
            self.connection.execute("SELECT core.enter_function(%s, 'inference')", (self.tenant,))
            self.connection.execute(
                "SELECT inference.complete(%s, 'w', 1, 'completed', 'Ten.', %s, %s, '/test', %s)",
                (job[0], self.random.randint(0, 200), self.random.randint(0, 150), str(uuid4())),
            )
            self.reach("settling")
        self.reach("settled")

    def run(self) -> None:
        """Go on until it is killed: a third of the turns stay in nobody's hands."""
        if self.point == "random":
            print("here", flush=True)  # noqa: T201
        while True:
            turn = self.ask()
            if turn is None:
                time.sleep(0.01)
            elif self.point != "random" or self.random.random() < 0.7:
                self.answer(turn)


if __name__ == "__main__":
    with psycopg.connect(sys.argv[1], autocommit=True) as own, psycopg.connect(sys.argv[2], autocommit=True) as other:
        Worker(own, other, UUID(sys.argv[3]), int(sys.argv[4]), sys.argv[5]).run()
