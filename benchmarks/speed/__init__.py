"""How fast is each thing that people wait for, beside other tools and what the machine allows?

`__main__` is the command: one table of all parts. `table` holds a row of it, and how works are
timed in turn; `others` runs other tools in processes of their own, one after the other; `networks`,
`training`, `costs` and `large` measure.
"""
