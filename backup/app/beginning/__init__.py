"""The first config of a server, made from answers: what `nightvault begin` asks for, without a screen.

`answers.py` has the answers as frozen values; `measure.py` looks what this machine has, for a bounded time;
`estimate.py` prices what was found; `document.py` makes the config's text; `sheet.py` is the recovery key on
paper; `foresee.py` knows what the doctor will name. All but `measure.py` are pure.
"""
