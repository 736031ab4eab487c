import java.net.URI;
import java.net.http.HttpClient;
import java.net.http.HttpRequest;
import java.net.http.HttpRequest.BodyPublishers;
import java.net.http.HttpResponse;
import java.net.http.HttpResponse.BodyHandlers;
import java.util.Base64;
import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Brings a task of OCP to its end, and checks that with oceanmock: {@code java -ea ClientTest.java}. */
class ClientTest {
    static final HttpClient HTTP = HttpClient.newHttpClient();
    static final String BASIC = "Basic " + Base64.getEncoder().encodeToString("manager:manager".getBytes());
    /** A client of your own reads JSON with its library. */
    static final Pattern FAILED_SUBTASK = Pattern.compile("\"id\":(\\d+),[^{}]*\"status\":\"FAILED\",\"timeout\"");

    static HttpResponse<String> send(String method, String url, String body) throws Exception {
        HttpRequest request = HttpRequest.newBuilder(URI.create(url)).header("Authorization", BASIC)
            .header("Content-Type", "application/json").method(method, BodyPublishers.ofString(body)).build();
        return HTTP.send(request, BodyHandlers.ofString());
    }

    /** Polls a task, at most so many times, and retries each subtask that has failed. */
    static void bringToSuccess(String url, int polls) throws Exception {
        for (; polls > 0; polls--) {
            String task = send("GET", url, "").body();
            if (task.contains("\"status\":\"SUCCESSFUL\",\"subtasks\"")) {
                return;
            }
            Matcher failed = FAILED_SUBTASK.matcher(task);
            if (task.contains("\"status\":\"FAILED\",\"subtasks\"") && failed.find()) {
                send("POST", url + "/subtasks/" + failed.group(1) + "/retry", "");
            }
        }
        throw new AssertionError(url + " has not become SUCCESSFUL");
    }

    public static void main(String[] arguments) throws Exception {
        String admin = System.getenv("OCEANMOCK_URL") + "/__admin/sandboxes";
        send("POST", admin, "{'name': 'java', 'scenarios': ['retry-failed-subtask'], 'progression': 'polls', 'ttl': '10m'}"
            .replace('\'', '"'));

        bringToSuccess(System.getenv("OCEANMOCK_URL") + "/sandboxes/java/api/v2/tasks/instances/1000", 50);

        String query = "{'query': {'operation': 'retrySubtask', 'subtask': 1002}, 'times': 1}".replace('\'', '"');
        HttpResponse<String> verified = send("POST", admin + "/java/journal/verify", query);
        assert verified.statusCode() == 200 : verified.body();
    }
}
