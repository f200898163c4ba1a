/* SPDX-License-Identifier: Apache-2.0 */
/* How a command line is matched against the table, and how the command line begins and ends. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cli/commands.h"
#include "lib/base/near.h"

#define MAX_NAMES 64u /* commands, for near names */

void cli_begin(void)
{
    for (int fd = 0; fd <= 2; fd++) {
        if (fcntl(fd, F_GETFD) >= 0 || errno != EBADF)
            continue;
        int got = open("/dev/null", fd == 0 ? O_WRONLY : O_RDONLY);
        if (got > fd)
            close(got);
    }
}

int cli_end(int status)
{
    struct err err = ERR_INIT;
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout))
        return status;
    if (errno == 0 && write(STDOUT_FILENO, "", 0) < 0) /* what failed earlier fails again */
        errno = errno ? errno : EIO;
    if (errno == EPIPE) { /* the reader has left: end as any filter does */
        signal(SIGPIPE, SIG_DFL);
        raise(SIGPIPE);
    }
    err_set(&err, E_IO, "writing to standard output: %s",
            errno ? strerror(errno) : "part of it was not written");
    return status == CLI_OK ? cli_fail(&err) : status;
}

static const char *speaker = "berth: ";

void cli_speak_as(const char *prefix)
{
    speaker = prefix;
}

const char *cli_speaker(void)
{
    return speaker;
}

int cli_fail(const struct err *err)
{
    fprintf(stderr, "%s%s\n", speaker, err->msg);
    return CLI_FAILED;
}

static int usage(const struct err *err)
{
    cli_fail(err);
    return CLI_USAGE;
}

/* Whether a command's name is FIRST SECOND, or, with second NULL, begins with FIRST and a space. */
static bool is_named(const struct cli_command *c, const char *first, const char *second)
{
    size_t n = strlen(first);
    if (strncmp(c->name, first, n) != 0 || c->name[n] != ' ')
        return false;
    return !second || strcmp(c->name + n + 1, second) == 0;
}

const struct cli_command *cli_find(int argc, char **argv, int *ret_words)
{
    static const struct {
        const char *other, *name;
    } synonyms[] = {{"ls", "list"},           {"unload", "stop"}, {"remove", "rm"},
                    {"--version", "version"}, {"-V", "version"},  {"-v", "version"},
                    {"start", "serve"},       {"--help", "help"}, {"-h", "help"}};
    size_t n;
    const struct cli_command *commands = cli_commands(&n), *found = NULL;
    const char *first = argv[0];
    for (size_t i = 0; i < ARRAY_LEN(synonyms); i++) {
        if (strcmp(first, synonyms[i].other) == 0)
            first = synonyms[i].name;
    }
    *ret_words = 1;
    for (size_t i = 0; i < n; i++) {
        if (argc > 1 && is_named(&commands[i], first, argv[1])) {
            *ret_words = 2;
            return &commands[i];
        }
        if (strcmp(commands[i].name, first) == 0)
            found = &commands[i];
    }
    return found;
}

int cli_unknown(int argc, char **argv)
{
    /* What people know from other model runners, and what is meant here. */
    static const struct {
        const char *word, *instead;
    } others[] = {
        {"create", "`berth package` makes a model of files"},
        {"cp", "`berth tag MODEL NAME` gives a model a further name"},
        {"purge", "`berth rm MODEL...` removes models, `berth prune` what has no name"},
        {"images", "`berth list` lists models"}};
    struct err err = ERR_INIT;
    size_t n_commands, n_groups, n = 0;
    const struct cli_command *commands = cli_commands(&n_commands);
    const struct cli_group *groups = cli_groups(&n_groups);
    const char *names[MAX_NAMES], *group = NULL;
    for (size_t i = 0; i < n_groups; i++) {
        if (strcmp(groups[i].name, argv[0]) == 0)
            group = groups[i].name;
        names[n++] = groups[i].name;
    }
    n = group ? 0 : n;
    BUG_ON(n_groups + n_commands > MAX_NAMES);
    for (size_t i = 0; i < n_commands; i++) {
        if (group && is_named(&commands[i], group, NULL))
            names[n++] = commands[i].name + strlen(group) + 1;
        else if (!group && !strchr(commands[i].name, ' '))
            names[n++] = commands[i].name;
    }
    const char *word = group && argc > 1 ? argv[1] : argv[0];
    for (size_t i = 0; !group && i < ARRAY_LEN(others); i++) {
        if (strcmp(word, others[i].word) == 0) {
            err_set(&err, E_INVALID, "there is no `berth %s`: %s", word, others[i].instead);
            return usage(&err);
        }
    }
    const char *near = near_name(word, names, n), *of = group ? group : "",
               *space = group ? " " : "";
    if (near)
        err_set(&err, E_INVALID, "there is no command '%s%s%.64s'; did you mean `berth %s%s%s`?",
                of, space, word, of, space, near);
    else
        err_set(&err, E_INVALID, "there is no command '%s%s%.64s'; `berth help%s%s` lists them", of,
                space, word, space, of);
    return usage(&err);
}

const struct cli_group *cli_group_find(const char *word)
{
    size_t n;
    const struct cli_group *g = cli_groups(&n);
    for (size_t i = 0; i < n; i++) {
        if (strcmp(g[i].name, word) == 0)
            return &g[i];
    }
    return NULL;
}

static void say(void *ctx, const char *sentence)
{
    (void)ctx;
    fprintf(stderr, "berth: %s\n", sentence);
}

bool cli_parse(int argc, char **argv, struct cli_args *ret, int *ret_status)
{
    argc--, argv++;
    *ret_status = CLI_OK;
    if (argc < 1) {
        cli_help_all();
        *ret_status = CLI_USAGE;
        return false;
    }
    const struct cli_group *group = cli_group_find(argv[0]);
    if (group && (argc == 1 || strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        cli_help_group(group);
        *ret_status = argc == 1 ? CLI_USAGE : CLI_OK;
        return false;
    }
    int n_words = 0;
    const struct cli_command *c = cli_find(argc, argv, &n_words);
    if (!c) {
        *ret_status = cli_unknown(argc, argv);
        return false;
    }
    struct err err = ERR_INIT;
    if (cli_args_parse(c, argc - n_words, argv + n_words, ret, &err) < 0) {
        *ret_status = usage(&err);
    } else if (ret->want_help) {
        cli_help_command(c);
    } else {
        if (c->config)
            config_unknown_env(say, NULL);
        return true;
    }
    cli_args_release(ret);
    return false;
}
