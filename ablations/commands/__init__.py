"""Commands of `fima-ablate`, which `ablations.cli` puts together; each loads what it needs when it is called.

`train`    run, sweep
`look`     list, plan, bench, cost, status
`show`     report, claims, figures, sync, ui
`examine`  doctor, data check
`options`  what several of them share
"""
