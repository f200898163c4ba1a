/* SPDX-License-Identifier: Apache-2.0 */
/* Command lines as docker reads them: short flags joined, `--flag=false`, values after `=` or in
 * the next word; and the sentences about wrong ones, in docker's form. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"
#include "cli/docker/plugin.h"

#define BIT(field) (1ull << CONFIG_##field)

static unsigned before_dash;

unsigned docker_operands_before_dash(void)
{
    return before_dash;
}

void docker_put_usage(FILE *f, const struct docker_command *c)
{
    bool says_options = strstr(c->operands, "[OPTIONS]") != NULL || !c->flags->name;
    fprintf(f, "Usage:  docker model %s%s%s%s", c->name, says_options ? "" : " [OPTIONS]",
            *c->operands ? " " : "", c->operands);
}

static int wrong(const struct docker_command *c, const char *sentence, const char *what)
{
    fprintf(stderr, "%s: %s\n\n", sentence, what);
    docker_put_usage(stderr, c);
    fprintf(stderr, "\n\nRun 'docker model %s --help' for more information\n", c->name);
    return CLI_FAILED;
}

static int wrong_count(const struct docker_command *c, const char *at)
{
    bool is_most = strcmp(at, "most") == 0;
    unsigned n = is_most ? c->max_operands : c->min_operands;
    bool is_exact = c->min_operands == c->max_operands;
    fprintf(stderr,
            "'docker model %s' requires %s%u argument(s).\n\nUsage:  docker model %s %s\n\n"
            "See 'docker model %s --help' for more information\n",
            c->name,
            is_exact  ? ""
            : is_most ? "at most "
                      : "at least ",
            n, c->name, c->operands, c->name);
    return CLI_FAILED;
}

static const struct cli_flag *find_flag(const struct docker_command *c, const char *name, size_t n,
                                        char letter)
{
    for (const struct cli_flag *f = c->flags; f->name; f++) {
        if (letter ? f->letter == letter : strlen(f->name) == n && strncmp(f->name, name, n) == 0)
            return f;
    }
    return NULL;
}

static const struct cli_flag help_flag = {"help", 'h', NULL, "", 0};

/* A flag was read; "false" takes a switch back. */
static bool give(struct cli_args *a, const struct cli_flag *f, const char *value)
{
    if (a->n_given == CLI_MAX_GIVEN)
        return false;
    if (!f->arg && value && (strcmp(value, "false") == 0 || strcmp(value, "0") == 0))
        return true;
    a->given[a->n_given].flag = f;
    a->given[a->n_given++].value = value ? value : "";
    return true;
}

struct reading {
    const struct docker_command *c;
    struct cli_args *a;
    int argc, i;
    char **argv;
    int status; /* set: refused, and said */
};

static void take_value(struct reading *r, const struct cli_flag *f, const char *value,
                       const char *word)
{
    if (f->arg && !value) {
        if (r->i + 1 >= r->argc) {
            r->status = wrong(r->c, "flag needs an argument", word);
            return;
        }
        value = r->argv[++r->i];
    }
    if (!give(r->a, f, value))
        r->status = wrong(r->c, "too many flags", word);
}

static void read_long(struct reading *r, const char *word)
{
    const char *name = word + 2, *eq = strchr(name, '=');
    size_t n = eq ? (size_t)(eq - name) : strlen(name);
    const struct cli_flag *f = find_flag(r->c, name, n, 0);
    if (!f && n == 4 && strncmp(name, "help", 4) == 0)
        f = &help_flag;
    char shown[128];
    snprintf(shown, sizeof(shown), "--%.*s", (int)MIN_OF(n, 100), name);
    if (!f)
        r->status = wrong(r->c, "unknown flag", shown);
    else
        take_value(r, f, eq ? eq + 1 : NULL, shown);
}

/* -f, -fq, -l FILE, -lFILE, -l=FILE */
static void read_short(struct reading *r, const char *word)
{
    for (const char *s = word + 1; *s && !r->status; s++) {
        const struct cli_flag *f = find_flag(r->c, NULL, 0, *s);
        char shown[160];
        if (!f && *s == 'h')
            f = &help_flag;
        snprintf(shown, sizeof(shown), "'%c' in %.128s", *s, word);
        if (!f) {
            r->status = wrong(r->c, "unknown shorthand flag", shown);
        } else if (f->arg) {
            const char *value = s[1] == '=' ? s + 2 : s[1] ? s + 1 : NULL;
            take_value(r, f, value, shown);
            return;
        } else {
            give(r->a, f, s[1] == '=' ? s + 2 : NULL);
            if (s[1] == '=')
                return;
        }
    }
}

static void read_words(struct reading *r)
{
    bool has_dash = false;
    struct cli_args *a = r->a;
    for (; r->i < r->argc && !r->status; r->i++) {
        const char *word = r->argv[r->i];
        if (!has_dash && strcmp(word, "--") == 0) {
            has_dash = true;
            before_dash = a->n_operands;
        } else if (!has_dash && word[0] == '-' && word[1] == '-') {
            read_long(r, word);
        } else if (!has_dash && word[0] == '-' && word[1]) {
            read_short(r, word);
        } else if (a->n_operands == CLI_MAX_OPERANDS) {
            r->status = wrong(r->c, "more words than fit a command line", word);
        } else {
            a->operands[a->n_operands++] = word;
        }
    }
    if (!has_dash)
        before_dash = a->n_operands;
}

bool docker_parse(const struct docker_command *c, int argc, char **argv, struct cli_args *ret,
                  int *ret_status)
{
    struct err err = ERR_INIT;
    struct reading r = {.c = c, .a = ret, .argc = argc, .argv = argv};
    *ret = (struct cli_args){.command = NULL};
    *ret_status = CLI_FAILED;
    if (!c->run) { /* whatever flags it has in the original: there is one answer */
        fprintf(stderr, "'docker model %s' is not what berth does: %s\n", c->name, c->instead);
        config_defaults(&ret->config);
        return false;
    }
    if (config_load(&ret->config,
                    BIT(host) | BIT(port) | BIT(socket) | BIT(url) | BIT(autostart) | BIT(api_key) |
                        BIT(tls_cert) | BIT(hf_token) | BIT(default_registry),
                    NULL, &err) < 0) {
        cli_fail(&err);
        return false;
    }
    read_words(&r);
    if (r.status)
        return false;
    if (cli_has(ret, "help")) {
        docker_help(c);
        *ret_status = CLI_OK;
        return false;
    }
    if (ret->n_operands < c->min_operands)
        *ret_status = wrong_count(c, "least");
    else if (ret->n_operands > c->max_operands)
        *ret_status = wrong_count(c, "most");
    else
        return true;
    return false;
}
