#include "clients/cli/completion.h"

void completion_words(const char *words, FILE *out) {
    for (; *words; words++) fputc(*words == '|' ? ' ' : *words, out);
}

void completion_options(const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) fprintf(out, "--%s ", o->name);
}

void completion_takers(const struct args_option *options, FILE *out) {
    const char *before = "";
    for (const struct args_option *o = options; o->name; o++) {
        if (!o->argument) continue;
        fprintf(out, "%s--%s", before, o->name);
        before = "|";
        if (o->letter) fprintf(out, "|-%c", o->letter);
    }
}

/* Only \ and ' are special between single quotes. */
void completion_fish_text(const char *text, FILE *out) {
    fputc('\'', out);
    for (; *text; text++) {
        if (*text == '\\' || *text == '\'') fputc('\\', out);
        fputc(*text, out);
    }
    fputc('\'', out);
}

void completion_fish_options(const char *program, const char *condition,
                             const struct args_option *options, FILE *out) {
    for (const struct args_option *o = options; o && o->name; o++) {
        fprintf(out, "complete -c %s%s -l %s", program, condition, o->name);
        if (o->letter) fprintf(out, " -s %c", o->letter);
        if (o->argument) fputs(o->words && *o->words == '@' ? " -r -F" : " -x", out);
        if (o->words && *o->words != '@') {
            fputs(" -a '", out);
            completion_words(o->words, out);
            fputc('\'', out);
        }
        fputs(" -d ", out);
        completion_fish_text(o->help, out);
        fputc('\n', out);
    }
}
