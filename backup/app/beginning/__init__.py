"""The first config of a server, made from the answers that `nightvault begin` asks for; without a screen.

`answers.py` has the answers as frozen values; `measure.py` measures this machine's folders, for a bounded
time; `estimate.py` prices what was found; `document.py` makes the config's text; `sheet.py` is the recovery
key on paper; `foresee.py` predicts the doctor's findings. All but `measure.py` are pure.
"""
