/* SPDX-License-Identifier: Apache-2.0 */
/* Implements args.h. */
#include "cli/args.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/base/near.h"

const struct cli_flag cli_help_flag = {"help", 'h', NULL, "print this page", 0};
const struct cli_flag cli_config_flag = {"config", 0, "FILE",
                                         "read options from there instead of the usual file", 0};

static const struct {
    const char *command, *flag, *instead;
} elsewhere[] = {
#define ELSEWHERE(command, flag, instead) {command, flag, instead},
#include "cli/elsewhere.def"
};

/* A flag of the command's own, or one that every command has. */
static const struct cli_flag *own_flag(const struct cli_command *c, const char *name, char letter)
{
    for (const struct cli_flag *f = c->flags; f && f->name; f++) {
        if (name ? strcmp(f->name, name) == 0 : f->letter == letter)
            return f;
    }
    if (name ? strcmp(cli_help_flag.name, name) == 0 : cli_help_flag.letter == letter)
        return &cli_help_flag;
    return name && c->config && strcmp(name, cli_config_flag.name) == 0 ? &cli_config_flag : NULL;
}

/* Secrets have no flag: other users can read a command line. */
static enum config_id config_flag(const struct cli_command *c, const char *name)
{
    enum config_id id = config_find(name);
    bool is_flag = id < CONFIG_N_OPTIONS && (c->config & (1ull << id)) &&
                   config_option(id)->type != CONFIG_SECRET;
    return is_flag ? id : CONFIG_N_OPTIONS;
}

/* The file that --config names, which has to be known before the other flags are read; NULL: none.
 */
static int config_file_flag(const struct cli_command *c, int argc, char **argv, const char **ret,
                            struct err *err)
{
    static const char flag[] = "--config";
    size_t n = sizeof(flag) - 1;
    *ret = NULL;
    for (int i = 0; c->config && i < argc && strcmp(argv[i], "--") != 0; i++) {
        if (strncmp(argv[i], flag, n) != 0 || (argv[i][n] != '=' && argv[i][n]))
            continue;
        *ret = argv[i][n] ? argv[i] + n + 1 : i + 1 < argc ? argv[i + 1] : "";
        if (!**ret)
            return err_set(err, E_INVALID, "--config needs a value: --config FILE");
    }
    return 0;
}

static int unknown_flag(const struct cli_command *c, const char *given, const char *name,
                        struct err *err)
{
    const char *names[CONFIG_N_OPTIONS + 64];
    size_t n = 0;
    const char *called = given[1] == '-' ? name : given + 1; /* -ngl is one flag elsewhere */
    enum config_id id = config_find(name);
    if (id < CONFIG_N_OPTIONS && (c->config & (1ull << id))) {
        char env[64];
        config_env_name(config_option(id)->key, env);
        return err_set(err, E_INVALID,
                       "--%s is no flag, since others could read it off the command line: set %s "
                       "in the environment, or `%s = ...` in the configuration file",
                       name, env, config_option(id)->key);
    }
    for (const struct cli_flag *f = c->flags; f && f->name && n < 60; f++)
        names[n++] = f->name;
    names[n++] = "help";
    if (c->config)
        names[n++] = cli_config_flag.name;
    for (int i = 0; i < CONFIG_N_OPTIONS; i++) {
        if (config_flag(c, config_option((enum config_id)i)->key) < CONFIG_N_OPTIONS)
            names[n++] = config_option((enum config_id)i)->key;
    }
    for (size_t i = 0; i < ARRAY_LEN(elsewhere); i++) {
        if (strcmp(elsewhere[i].command, c->name) == 0 && strcmp(elsewhere[i].flag, called) == 0)
            return err_set(err, E_INVALID, "`berth %s` has no flag %s: %s", c->name, given,
                           elsewhere[i].instead);
    }
    const char *near = near_name(name, names, n);
    if (near)
        return err_set(err, E_INVALID, "`berth %s` has no flag %s; did you mean --%s?", c->name,
                       given, near);
    return err_set(err, E_INVALID, "`berth %s` has no flag %s; `berth help %s` lists those it has",
                   c->name, given, c->name);
}

static int give(struct cli_args *a, const struct cli_flag *f, const char *value, struct err *err)
{
    if (f == &cli_help_flag)
        a->want_help = true;
    if (!(f->how & CLI_REPEAT) && f->arg && cli_flag(a, f->name))
        return err_set(err, E_INVALID, "--%s is given twice", f->name);
    if (a->n_given == CLI_MAX_GIVEN)
        return err_set(err, E_INVALID, "more than %u flags", CLI_MAX_GIVEN);
    a->given[a->n_given].flag = f;
    a->given[a->n_given++].value = value;
    return 0;
}

/* One argument that begins with a dash; *i moves past a value that follows it. */
static int read_flag(struct cli_args *a, int argc, char **argv, int *i, struct err *err)
{
    const char *word = argv[*i];
    char name[NEAR_WORD_BYTES + 1];
    const char *eq = NULL;
    const struct cli_flag *f;
    enum config_id id = CONFIG_N_OPTIONS;
    if (word[1] == '-') {
        eq = strchr(word, '=');
        size_t n = eq ? (size_t)(eq - word - 2) : strlen(word + 2);
        n = MIN_OF(n, NEAR_WORD_BYTES);
        memcpy(name, word + 2, n);
        name[n] = '\0';
        f = own_flag(a->command, name, 0);
        id = config_flag(a->command, name);
    } else {
        name[0] = word[1];
        name[1] = '\0';
        f = word[2] ? NULL : own_flag(a->command, NULL, word[1]);
    }
    if (!f && id == CONFIG_N_OPTIONS)
        return unknown_flag(a->command, word, name, err);
    bool is_switch = !f && config_option(id)->type == CONFIG_SWITCH;
    bool wants_value = f ? f->arg != NULL : !is_switch;
    if (f && !wants_value && eq)
        return err_set(err, E_INVALID, "--%s takes no value", name);
    const char *value = eq ? eq + 1 : is_switch ? "yes" : "";
    if (wants_value && !eq) {
        if (*i + 1 >= argc)
            return err_set(err, E_INVALID, "%s needs a value: %s %s", word, word,
                           f ? f->arg : config_option(id)->arg);
        value = argv[++*i];
    }
    if (f)
        return give(a, f, value, err);
    return config_set_flag(&a->config, id, value, err);
}

/* Required flags, and those of which one is. */
static int check_presence(const struct cli_args *a, struct err *err)
{
    const struct cli_command *c = a->command;
    bool has_choice = false, operand_counts = c->max_operands > 0 && c->min_operands == 0;
    unsigned n_chosen = operand_counts && a->n_operands > 0;
    for (const struct cli_flag *f = c->flags; f && f->name; f++) {
        if ((f->how & CLI_REQUIRED) && !cli_has(a, f->name))
            return err_set(err, E_INVALID, "`berth %s` needs --%s %s; see `berth help %s`", c->name,
                           f->name, f->arg ? f->arg : "", c->name);
        has_choice |= (f->how & CLI_ONE_OF) != 0;
        n_chosen += (f->how & CLI_ONE_OF) && cli_has(a, f->name);
    }
    if (!has_choice || n_chosen == 1)
        return 0;
    struct buf names;
    buf_init(&names, 1024);
    if (operand_counts)
        buf_printf(&names, "%.*s", (int)strcspn(c->operands + 1, "]"), c->operands + 1);
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        if (f->how & CLI_ONE_OF)
            buf_printf(&names, "%s--%s%s%s", names.len ? ", " : "", f->name, f->arg ? " " : "",
                       f->arg ? f->arg : "");
    }
    err_set(err, E_INVALID, "`berth %s` needs exactly one of %s", c->name, buf_str(&names));
    buf_release(&names);
    return -E_INVALID;
}

/* `vllm serve MODEL` is what people know. */
static int one_too_many(const struct cli_command *c, const char *word, struct err *err)
{
    const char *hint = "";
    if (c->max_operands)
        hint = " (put quotes around words that belong together)";
    else if (strcmp(c->name, "serve") == 0)
        hint =
            ": a daemon serves every model in the folders of --models-dir and in the store; each "
            "request names its own";
    return err_set(err, E_INVALID, "`berth %s` takes %s; '%.64s' is one word too many%s", c->name,
                   c->operands[0] ? c->operands : "no operand", word, hint);
}

int cli_args_parse(const struct cli_command *command, int argc, char **argv, struct cli_args *ret,
                   struct err *err)
{
    struct cli_args *a = ret;
    *a = (struct cli_args){.command = command};
    for (int i = 0; i < argc; i++) { /* help works whatever else is wrong */
        if (strcmp(argv[i], "--") == 0)
            break;
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
            a->want_help = true;
            return 0;
        }
    }
    const char *file = NULL;
    if (config_file_flag(command, argc, argv, &file, err) < 0)
        return -err->code;
    int rc = 0;
    if (command->config)
        rc = config_load(&a->config, command->config, file, err);
    else /* help, and the command that finds the file's mistakes */
        config_defaults(&a->config);
    if (rc < 0)
        return rc;
    bool flags_ended = false;
    for (int i = 0; i < argc && rc == 0; i++) {
        const char *word = argv[i];
        if (!flags_ended && strcmp(word, "--") == 0) {
            flags_ended = true;
        } else if (!flags_ended && word[0] == '-' && word[1]) {
            rc = read_flag(a, argc, argv, &i, err);
        } else if (a->n_operands == command->max_operands) {
            rc = one_too_many(command, word, err);
        } else {
            a->operands[a->n_operands++] = word;
        }
    }
    if (rc == 0)
        rc = check_presence(a, err);
    if (rc == 0 && a->n_operands < command->min_operands)
        rc = err_set(err, E_INVALID, "`berth %s` needs %s; see `berth help %s`", command->name,
                     command->operands, command->name);
    return rc;
}

void cli_args_release(struct cli_args *a)
{
    config_release(&a->config);
}

const char *cli_flag(const struct cli_args *a, const char *name)
{
    for (unsigned i = a->n_given; i-- > 0;) {
        if (strcmp(a->given[i].flag->name, name) == 0)
            return a->given[i].value;
    }
    return NULL;
}

bool cli_has(const struct cli_args *a, const char *name)
{
    return cli_flag(a, name) != NULL;
}

int cli_number(const struct cli_args *a, const char *name, uint64_t min, uint64_t max,
               uint64_t *ret, struct err *err)
{
    const char *text = cli_flag(a, name);
    if (text && config_parse_number(text, min, max, ret, err) < 0)
        return err_wrap(err, "--%s", name);
    return 0;
}

int cli_real(const struct cli_args *a, const char *name, double min, double max, double *ret,
             struct err *err)
{
    const char *text = cli_flag(a, name);
    if (!text)
        return 0;
    char *end;
    errno = 0;
    double v = strtod(text, &end);
    if (end == text || *end || !(v >= min && v <= max))
        return err_set(err, E_INVALID, "--%s: '%.64s' is not a number from %g to %g", name, text,
                       min, max);
    *ret = v;
    return 0;
}
