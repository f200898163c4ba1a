/* SPDX-License-Identifier: Apache-2.0 */
/* `docker model`: berth as a plugin of docker's command line, in the words and formats of Docker
 * Model Runner's, so that scripts, Compose and people find what they know.
 *
 * docker runs `docker-model [GLOBAL FLAGS] model COMMAND...`; people and Compose run `docker-model
 * COMMAND...`.  Both are the same here.  Every failure exits 1.  Flags are read as docker reads
 * them (short ones joined, --flag=false), by a parser and a table of their own; what a command does
 * is mostly shared with berth's (cli/artifact, cli/run.c).  Main thread. */
#ifndef CLI_DOCKER_PLUGIN_H
#define CLI_DOCKER_PLUGIN_H

#include <stdio.h>

#include "cli/args.h"

/* At least the version from which on Compose hands runtime flags on (1.0.6). */
#define DOCKER_PLUGIN_VERSION "v1.1.0"

/* Whether the program was called as the plugin. */
bool docker_is_plugin(const char *argv0);
/* The whole program then; its exit status. */
int docker_main(int argc, char **argv);

/* Global flags that docker hands on; they speak of docker's engine and are passed over. */
int docker_skip_globals(int argc, char **argv, int at);

struct docker_command {
    const char *name;     /* "list", "configure show" */
    const char *alias;    /* "ls", or NULL */
    const char *operands; /* "MODEL [PROMPT...]"; "" for none */
    unsigned min_operands, max_operands;
    const char *summary; /* no final stop; NULL: hidden */
    const struct cli_flag *flags;
    int (*run)(const struct cli_args *a); /* NULL: not what berth does */
    const char *instead;                  /* then: what to do with berth */
};

const struct docker_command *docker_commands(size_t *ret_n);
/* The command of the first words (*ret_words how many), or NULL. */
const struct docker_command *docker_find(int argc, char **argv, int *ret_words);

/* Reads what follows the command's name as docker would.  False: *ret_status is the exit status,
 * everything was said. */
bool docker_parse(const struct docker_command *c, int argc, char **argv, struct cli_args *ret,
                  int *ret_status);
/* How many operands stood before "--"; all where there was none. */
unsigned docker_operands_before_dash(void);

void docker_help(const struct docker_command *c); /* NULL: of all */
/* "Usage:  docker model X [OPTIONS] MODEL" without a newline. */
void docker_put_usage(FILE *f, const struct docker_command *c);

/* `__complete WORDS... LAST`. */
int docker_complete(int argc, char **argv, bool has_descriptions);

int docker_bench(const struct cli_args *a);
int docker_compose(const struct cli_args *a);
int docker_configure(const struct cli_args *a);
int docker_configure_show(const struct cli_args *a);
int docker_df(const struct cli_args *a);
int docker_inspect(const struct cli_args *a);
int docker_list(const struct cli_args *a);
int docker_logs(const struct cli_args *a);
int docker_package(const struct cli_args *a);
int docker_ps(const struct cli_args *a);
int docker_pull(const struct cli_args *a);
int docker_purge(const struct cli_args *a);
int docker_push(const struct cli_args *a);
int docker_rm(const struct cli_args *a);
int docker_run(const struct cli_args *a);
int docker_search(const struct cli_args *a);
int docker_show(const struct cli_args *a);
int docker_status(const struct cli_args *a);
int docker_tag(const struct cli_args *a);
int docker_unload(const struct cli_args *a);
int docker_version(const struct cli_args *a);

#endif
