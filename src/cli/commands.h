/* SPDX-License-Identifier: Apache-2.0 */
/* The command table: every command's name, operands, flags and manual page; and what finds and
 * prints them.
 *
 * Exit statuses of every command: 0 done; 1 it could not be done (a sentence on standard error says
 * why); 2 the command line is wrong; 130 interrupted by Ctrl-C.  Main thread. */
#ifndef CLI_COMMANDS_H
#define CLI_COMMANDS_H

#include "cli/args.h"

enum { CLI_OK = 0, CLI_FAILED = 1, CLI_USAGE = 2, CLI_INTERRUPTED = 130 };

/* First and last thing of the program.  cli_begin: a closed standard descriptor is not given to the
 * next file opened.  cli_end: the exit status, which is a failure when standard output could not
 * take everything that was printed. */
void cli_begin(void);
int cli_end(int status);

/* Reads a whole command line.  True: a command and its arguments are in *ret, to be carried out and
 * released. False: *ret_status is the exit status, everything was said (help, version, or a
 * refusal). */
bool cli_parse(int argc, char **argv, struct cli_args *ret, int *ret_status);

/* "berth: SENTENCE" on standard error; returns the exit status for it. */
int cli_fail(const struct err *err);
/* What cli_fail puts before a sentence instead of "berth: ". */
void cli_speak_as(const char *prefix);
const char *cli_speaker(void);

const struct cli_command *cli_commands(size_t *ret_n);
/* The command named by the first one or two words (*ret_words how many), or NULL. */
const struct cli_command *cli_find(int argc, char **argv, int *ret_words);

/* Says that there is no such command, with the nearest there is; returns the exit status for it. */
int cli_unknown(int argc, char **argv);

/* Commands of two words that have a page of their own together. */
struct cli_group {
    const char *name, *summary, *about;
};
const struct cli_group *cli_groups(size_t *ret_n);
/* The group that a word names, or NULL. */
const struct cli_group *cli_group_find(const char *word);

/* A command's manual page, or the list of all commands or of a group, to standard output. */
void cli_help_command(const struct cli_command *c);
void cli_help_all(void);
void cli_help_group(const struct cli_group *group);

/* The commands, one file each. */
int cmd_bench(const struct cli_args *a);
int cmd_completion(const struct cli_args *a);
int cmd_config_check(const struct cli_args *a);
int cmd_config_path(const struct cli_args *a);
int cmd_config_show(const struct cli_args *a);
int cmd_configure(const struct cli_args *a);
int cmd_configure_show(const struct cli_args *a);
int cmd_df(const struct cli_args *a);
int cmd_export(const struct cli_args *a);
int cmd_help(const struct cli_args *a);
int cmd_import(const struct cli_args *a);
int cmd_inspect(const struct cli_args *a);
int cmd_keys(const struct cli_args *a);
int cmd_list(const struct cli_args *a);
int cmd_load(const struct cli_args *a);
int cmd_lock(const struct cli_args *a);
int cmd_logs(const struct cli_args *a);
int cmd_package(const struct cli_args *a);
int cmd_prune(const struct cli_args *a);
int cmd_ps(const struct cli_args *a);
int cmd_pull(const struct cli_args *a);
int cmd_push(const struct cli_args *a);
int cmd_rm(const struct cli_args *a);
int cmd_run(const struct cli_args *a);
int cmd_search(const struct cli_args *a);
int cmd_show(const struct cli_args *a);
int cmd_status(const struct cli_args *a);
int cmd_stop(const struct cli_args *a);
int cmd_tag(const struct cli_args *a);
int cmd_verify(const struct cli_args *a);
int cmd_version(const struct cli_args *a);

#endif
