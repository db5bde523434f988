"""The screens of `nightvault begin`, a wizard that writes the first config: start with `conduct.py`.

`question.py` has the class of a question; `what_and_where.py`, `in_aws.py`, `when_and_keep.py` and
`key_and_people.py` have the questions, `course.py` their order and the same answers from a file. `walk.py`
asks them on a terminal. `summary.py` shows what would be done, `carry_out.py` does it by the commands that it
shows, `next_steps.py` says what is left to do, and on which machine; `conduct.py` is the whole.
"""
