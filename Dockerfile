FROM python:3.12-slim
WORKDIR /app
COPY . .
RUN pip install --no-cache-dir -c constraints.txt '.[postgres,onnx]'
WORKDIR /
CMD ["archsearch", "serve", "--host", "0.0.0.0"]
