"""The board is shared with what is forked."""

import os

from worker.board import Board


def test_what_one_process_writes_another_reads() -> None:
    # Given a board and a child that has it too
    board = Board(slots=3)
    child = os.fork()
    if child == 0:
        board.set_busy(1, True)
        board.set_busy(2, True)
        board.set_busy(2, False)
        board.ask_to_stop()
        os._exit(0)
    # When the child has written / Then we read
    assert os.waitpid(child, 0)[1] == 0
    assert (board.busy(), board.stopping()) == (1, True)
