/* jumun cluster recover: hands over to jumund, which alone knows the directory. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "clients/cli/cli.h"

enum { CANNOT_RUN = 127 };

/* "jumund" beside this program, or the one that the shell would find. */
static void program_path(char *out, size_t bytes) {
    ssize_t size = readlink("/proc/self/exe", out, bytes - 1);
    char *slash = NULL;
    if (size > 0) {
        out[size] = 0;
        slash = strrchr(out, '/');
    }
    if (slash && (size_t)(slash + 1 - out) + sizeof "jumund" <= bytes) {
        memcpy(slash + 1, "jumund", sizeof "jumund");
        if (access(out, X_OK) == 0) return;
    }
    snprintf(out, bytes, "jumund");
}

/* Its statuses are others than ours: what it says on stderr tells more. */
static int exit_of(struct cli *cli, const char *path, pid_t program) {
    int ended = 0;
    while (waitpid(program, &ended, 0) != program)
        if (errno != EINTR) return CLI_NO_ANSWER;
    if (!WIFEXITED(ended)) {
        cli_error(cli, "%s was ended by a signal", path);
        return CLI_NO_ANSWER;
    }
    int status = WEXITSTATUS(ended);
    if (status == CLI_DONE || status == CLI_USAGE) return status;
    return status == CANNOT_RUN ? CLI_NO_ANSWER : CLI_REFUSED;
}

int cli_cluster_recover(struct cli *cli) {
    char path[4096], option[] = "--recover-alone", dry[] = "--recover-alone-dry", data[] = "--data",
         json[] = "--recover-json";
    char *directory = args_value(&cli->args, "data");
    const char *given = args_value(&cli->args, "program");
    if (!directory) return cli_usage(cli, "recover needs --data DIR");
    if (given) snprintf(path, sizeof path, "%s", given);
    else program_path(path, sizeof path);
    char *arguments[] = {path, args_flag(&cli->args, "force") ? option : dry, data, directory,
                         cli->json ? json : NULL, NULL};
    fflush(stdout);
    pid_t program = fork();
    if (program == 0) {
        execvp(path, arguments);
        cli_error(cli, "cannot run %s: %s", path, strerror(errno));
        _exit(CANNOT_RUN);
    }
    if (program > 0) return exit_of(cli, path, program);
    cli_error(cli, "cannot run %s: %s", path, strerror(errno));
    return CLI_NO_ANSWER;
}
