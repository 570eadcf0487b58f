#include "clients/cli/help.h"

#include <string.h>

enum { HELP_COLUMNS = 98, HELP_INDENT = 32 };

/* Text from column HELP_INDENT on, wrapped between words. */
static void help_wrapped(const char *text, FILE *out) {
    int column = HELP_INDENT;
    while (*text) {
        int size = (int)strcspn(text, " ");
        if (column > HELP_INDENT && column + size > HELP_COLUMNS) {
            fprintf(out, "\n%*s", HELP_INDENT, "");
            column = HELP_INDENT;
        }
        fprintf(out, "%s%.*s", column > HELP_INDENT ? " " : "", size, text);
        column += size + 1;
        text += size + (text[size] == ' ');
    }
    fputc('\n', out);
}

void help_options(bool color, const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) {
        char left[64], letter[8] = "    ";
        if (o->letter) snprintf(letter, sizeof letter, "-%c, ", o->letter);
        snprintf(left, sizeof left, "%s--%s%s%s", letter, o->name, o->argument ? " " : "",
                 o->argument ? o->argument : "");
        fprintf(out, "  %s%-28s%s", color ? "\x1b[36m" : "", left, color ? "\x1b[0m" : "");
        /* Long names push their text to a line of its own. */
        if (strlen(left) > 28) fprintf(out, "\n%*s", HELP_INDENT, "");
        else fputs("  ", out);
        help_wrapped(o->help, out);
    }
}

void help_heading(bool color, const char *text, FILE *out) {
    fprintf(out, "\n%s%s%s\n", color ? "\x1b[1m" : "", text, color ? "\x1b[0m" : "");
}

void help_indented(const char *text, FILE *out) {
    while (text && *text) {
        size_t size = strcspn(text, "\n");
        fprintf(out, "  %.*s\n", (int)size, text);
        text += size + (text[size] == '\n');
    }
}
