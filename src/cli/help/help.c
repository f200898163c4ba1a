/* SPDX-License-Identifier: Apache-2.0 */
/* Help pages, written from the command table alone. */
#include <stdio.h>
#include <string.h>

#include "cli/commands.h"

#define WIDTH 80

/* Prints text in lines of at most WIDTH columns, each after `indent` spaces; column is where the
 * cursor stands. A newline in text ends a paragraph. */
static void wrap(const char *text, int indent, int column)
{
    while (*text) {
        size_t n = strcspn(text, " \n");
        if (column > indent && column + 1 + (int)n > WIDTH) {
            putchar('\n');
            column = 0;
        }
        if (column < indent) {
            printf("%*s", indent - column, "");
            column = indent;
        } else if (column > indent) {
            putchar(' ');
            column++;
        }
        printf("%.*s", (int)n, text);
        column += (int)n;
        text += n;
        if (*text == '\n') {
            printf("\n\n");
            column = 0;
        }
        text += *text != '\0';
    }
    putchar('\n');
}

static void flag_row(char letter, const char *name, const char *arg, const char *help)
{
    int n = letter ? printf("    -%c, --%s", letter, name) : printf("    --%s", name);
    if (arg)
        n += printf(" %s", arg);
    putchar('\n');
    (void)n;
    wrap(help, 8, 0);
}

static void option_row(const struct config_option *o)
{
    char env[64], help[512], arg[64];
    config_env_name(o->key, env);
    snprintf(arg, sizeof(arg), "%s", o->type == CONFIG_CHOICE ? o->choices : o->arg ? o->arg : "");
    int n = snprintf(help, sizeof(help), "%s", o->help);
    if (o->dflt[0] && strcmp(o->dflt, "0") != 0 && n > 0 && (size_t)n < sizeof(help))
        n += snprintf(help + n, sizeof(help) - (size_t)n, "; default %s", o->dflt);
    if (n > 0 && (size_t)n < sizeof(help))
        snprintf(help + n, sizeof(help) - (size_t)n, " (environment: %s)", env);
    if (o->type == CONFIG_SECRET) { /* no flag: others could read it */
        printf("    %s\n", env);
        snprintf(help, sizeof(help), "%s (or `%s = ...` in the configuration file; no flag)",
                 o->help, o->key);
        wrap(help, 8, 0);
        return;
    }
    flag_row(0, o->key, arg[0] ? arg : NULL, help);
}

void cli_help_command(const struct cli_command *c)
{
    printf("NAME\n    berth %s - %s\n\nSYNOPSIS\n    berth %s", c->name, c->summary, c->name);
    if (c->operands[0])
        printf(" %s", c->operands);
    printf(" [FLAGS]\n\nDESCRIPTION\n");
    wrap(c->about, 4, 0);
    printf("\nFLAGS\n");
    for (const struct cli_flag *f = c->flags; f && f->name; f++)
        flag_row(f->letter, f->name, f->arg, f->help);
    for (int id = 0; id < CONFIG_N_OPTIONS; id++) {
        if (c->config & (1ull << id))
            option_row(config_option((enum config_id)id));
    }
    if (c->config)
        flag_row(0, cli_config_flag.name, cli_config_flag.arg, cli_config_flag.help);
    flag_row('h', "help", NULL, "print this page");
    if (c->examples) {
        printf("\nEXAMPLES\n");
        for (const char *s = c->examples; *s;) {
            size_t n = strcspn(s, "\t"), end = strcspn(s, "\n");
            if (end > n + 1)
                printf("    %.*s\n        %.*s\n", (int)n, s, (int)(end - n - 1), s + n + 1);
            else
                printf("    %.*s\n", (int)n, s);
            s += end + (s[end] == '\n');
        }
    }
    printf("\nEXIT STATUS\n    0  done\n    1  it could not be done; a sentence on standard error "
           "says why\n"
           "    2  the command line is wrong\n    130  interrupted by Ctrl-C\n");
}

/* Whether a command's row stands among those of a group, or, with "", on the page of all. */
static bool is_in(const struct cli_command *c, const char *group)
{
    size_t len = strlen(group), n;
    const struct cli_group *g = cli_groups(&n);
    if (len)
        return strncmp(c->name, group, len) == 0 && c->name[len] == ' ';
    for (size_t i = 0; i < n; i++) {
        if (is_in(c, g[i].name))
            return false;
    }
    return true;
}

static void summary_rows(const char *group)
{
    size_t n;
    const struct cli_command *c = cli_commands(&n);
    for (size_t i = 0; i < n; i++) {
        if (!is_in(&c[i], group))
            continue;
        char left[80];
        snprintf(left, sizeof(left), "%s %s", c[i].name, c[i].operands);
        printf("    %-26s %s\n", left, c[i].summary);
    }
}

void cli_help_all(void)
{
    printf("berth runs AI models: pinned, declared, watched.\n\n"
           "USAGE\n    berth COMMAND [OPERANDS] [FLAGS]\n\nCOMMANDS\n");
    summary_rows("");
    size_t n;
    const struct cli_group *g = cli_groups(&n);
    for (size_t i = 0; i < n; i++) {
        char left[80];
        snprintf(left, sizeof(left), "%s COMMAND", g[i].name);
        printf("    %-26s %s\n", left, g[i].summary);
    }
    printf("\n`berth help COMMAND` (or `berth COMMAND --help`) explains one of them.\n");
}

void cli_help_group(const struct cli_group *group)
{
    printf("USAGE\n    berth %s COMMAND [OPERANDS] [FLAGS]\n\nCOMMANDS\n", group->name);
    summary_rows(group->name);
    printf("\n%s\n`berth help %s COMMAND` explains one of them.\n", group->about, group->name);
}
