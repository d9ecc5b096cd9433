"""The ablation suite around `fima`: a study in YAML becomes stages, a store, MLflow runs and tables.

Modules in the order in which a run goes through them:

what is asked       `located`, `dotted`, `expression`: YAML that knows its lines, settings by dotted name, conditions
                    `study`, `profile`, `resolve`, read as `spec`: what is compared, how large, what a row runs with
                    `literature`, `catalogue`, `schema`: printed lines of other methods, what there is, editors' schemas
what is to be done  `plan`: studies x rows x seeds as stages
                    `uids`: what a stage is, and what its uid is made of
                    `estimate`, `bench`, `costing`: how long it takes, a step timed here, parameters and FLOPs
how it is done      `store`: a folder per stage, the truth about what is done
                    `prepare`, `running`, `engine`, `engines`: first the data, the command, the order, the places
                    `worker`, `stages`, `ranks`, `cards`: a stage's process, what it does, several devices, which ones
                    `display`, `watching`: what is seen of a run from inside, from outside
                    `code`, `provenance`: commit and machine of a result
what came out       `results`, `stats`, `verdicts`: the store's numbers, intervals and tests, what a claim gets
                    `table`, `report`, `cost_columns`, `diagnoses`, `notes`: the model of a table, and who fills it
                    `phrases`, `markup`, `markdown`, `latex`, `render`, `document`: its words and formats
                    `plots`, `effects`, `picturing`: its pictures, and those of what a model attends to
                    `publish`, `records`: files and the records that travel with them
the search          `sweep`, `space`: a sweep and its space
                    `conducting`, `sweeping`, `searcher`, `search`: the command, from outside, one process, Optuna
                    `findings`, `landscape`, `promote`: what was found, its pictures, the best trial as a row
MLflow              `tracking`, `mirror`, `ledger`, `sqlite`, `ui`: a writer, what it writes and wrote, database, pages
the doctor          `doctor`, `finding`, `health`, `machine`, `mirrored`: all, one thing seen; store, machine, MLflow
the commands        `cli`, `commands`: all of them, and each with the options that they share
"""
