/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines: what a command accepts, and what one call gave it.
 *
 * A flag is `--name VALUE`, `--name=VALUE` or `--name`; `--` ends flags; flags and operands may be
 * mixed.  A command's flags are its own rows and the config options it names (lib/sys/config.def).
 * Main thread. */
#ifndef CLI_ARGS_H
#define CLI_ARGS_H

#include "lib/sys/config.h"

/* How often a flag may or must stand; 0: once or not at all. */
enum {
    CLI_REPEAT = 1,   /* as often as wanted */
    CLI_REQUIRED = 2, /* always */
    CLI_ONE_OF =
        4,         /* of these and the operands, where the command has optional ones: exactly one */
    CLI_HIDDEN = 8 /* of no interest to a reader of help */
};

struct cli_flag {
    const char *name; /* without dashes; NULL ends a table */
    char letter;      /* short form, 0: none */
    const char *arg;  /* name of its value in help ("a|b": one of these); NULL: it has none */
    const char *help;
    unsigned how; /* CLI_REPEAT and so on */
};

/* Flags that are not in a command's own table: help has every command, config every one that reads
 * options. */
extern const struct cli_flag cli_help_flag, cli_config_flag;

struct cli_args;

/* Which part of the program carries a command out. */
enum cli_role { CLI_ROLE_CLI, CLI_ROLE_SERVE, CLI_ROLE_DEBUG };

struct cli_command {
    const char *name;     /* "run", "debug logits" */
    const char *operands; /* "MODEL [PROMPT]"; "" for none */
    unsigned min_operands, max_operands;
    enum cli_role role;
    int (*run)(const struct cli_args *a); /* CLI_ROLE_CLI: returns the exit status */
    const char *summary;                  /* one line, no final stop */
    const char *about;                    /* paragraphs, wrapped by help */
    const char *examples;                 /* lines "command\tmeaning", or NULL */
    const struct cli_flag *flags;
    uint64_t config; /* bits 1ull << CONFIG_x of the options it reads */
};

#define CLI_MAX_GIVEN    256u
#define CLI_MAX_OPERANDS 256u

struct cli_args {
    const struct cli_command *command;
    struct config config; /* owned */
    struct {
        const struct cli_flag *flag;
        const char *value; /* borrowed from argv; "" for a flag without one */
    } given[CLI_MAX_GIVEN];
    unsigned n_given;
    const char *operands[CLI_MAX_OPERANDS]; /* borrowed from argv */
    unsigned n_operands;
    bool want_help;
};

/* Reads what follows the command's name.  E_INVALID with a sentence (an unknown flag names the
 * nearest one). Release with cli_args_release, also after a failure. */
int cli_args_parse(const struct cli_command *command, int argc, char **argv, struct cli_args *ret,
                   struct err *err) MUST_USE;
void cli_args_release(struct cli_args *a);

/* The last value given, or NULL. */
const char *cli_flag(const struct cli_args *a, const char *name);
bool cli_has(const struct cli_args *a, const char *name);
/* The flag's number; *ret is left alone when it was not given.  E_INVALID names the flag. */
int cli_number(const struct cli_args *a, const char *name, uint64_t min, uint64_t max,
               uint64_t *ret, struct err *err) MUST_USE;
int cli_real(const struct cli_args *a, const char *name, double min, double max, double *ret,
             struct err *err) MUST_USE;

#endif
