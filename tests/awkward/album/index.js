const express = require('express');
const multer = require('multer');

const app = express();
const photos = multer({ storage: multer.diskStorage({ destination: 'public/photos', filename: (_request, file, done) => done(null, file.originalname) }) });

app.get('/', (_request, response) => response.send('album'));
app.post('/photos', photos.single('photo'), (request, response) => {
  response.status(201).json({ name: request.file.filename, size: request.file.size });
});
app.use(express.static('public'));

app.listen(process.env.PORT ?? 3000, '127.0.0.1');
