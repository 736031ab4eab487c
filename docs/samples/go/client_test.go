package ocpclient

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"testing"
)

// post sends JSON to oceanmock's admin API and returns the status and the response.
func post(t *testing.T, path, body string) (int, map[string]any) {
	url := os.Getenv("OCEANMOCK_URL") + "/__admin/sandboxes" + path
	response, err := http.Post(url, "application/json", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	var data map[string]any
	if err := json.NewDecoder(response.Body).Decode(&data); err != nil {
		t.Fatal(err)
	}
	return response.StatusCode, data
}

func TestARetryBringsTheTaskToSuccess(t *testing.T) {
	_, sandbox := post(t, "", `{"scenarios": ["retry-failed-subtask"], "progression": "polls", "ttl": "10m"}`)
	url := sandbox["urls"].(map[string]any)["path"].(string)

	if err := BringToSuccess(url+"/api/v2/tasks/instances/1000", 50, func() {}); err != nil {
		t.Error(err)
	}

	query := `{"query": {"operation": "retrySubtask", "subtask": 1002}, "times": 1}`
	if status, verdict := post(t, "/"+sandbox["name"].(string)+"/journal/verify", query); status != 200 {
		t.Error(verdict["message"])
	}
}
